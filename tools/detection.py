"""`python -m tools.detection docs/accept.md`: which faults of hardware `alexnet accept` finds, and how soon.

Each case of `tests.engines.hardware` is planted in each engine and precision, DRAWS times.  The tables of the document that stand between
`<!-- NAME -->` and `<!-- end -->` are drawn anew.  About ten minutes of processor time.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from job.core.recipe import from_toml
from job.engines import ENGINES
from tests.engines.hardware import CASES, DRAWS, Draw
from tools.faults import drawn

ROOT = Path(__file__).parents[1]
PRECISIONS = ("bf16", "fp32")
RATES = (1e-9, 1e-10, 1e-11, 1e-12)
Found = dict[str, dict[str, list[Draw]]]
"""engine → case/precision → draws"""


def measured() -> Found:
    """One process for each engine, one after the other."""
    found = {}
    for engine in ENGINES:
        command = [sys.executable, "-m", "tests.engines.hardware", engine]
        found[engine] = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
    return found


def fault_table(found: Found) -> str:
    head = "| fault | where | bit | found, bf16 | found, fp32 | steps until then | named | loss spike or NaN |"
    lines = [head, "|---" * 8 + "|"]
    for case in CASES:
        what, place, bit = case.split("|")
        draws = [draw for engine in ENGINES for precision in PRECISIONS for draw in found[engine][f"{case}/{precision}"]]
        cells = [counts([found[engine][f"{case}/{precision}"] for engine in ENGINES]) for precision in PRECISIONS]
        seen = f"{sum(draw['spike'] for draw in draws)} of {len(draws)}"
        lines.append(f"| {what} | {place} | {bit} | {' | '.join(cells)} | {delay(draws)} | {named(draws)} | {seen} |")
    return "\n".join(lines)


def counts(draws: Iterable[list[Draw]]) -> str:
    """Of each engine; once where they agree."""
    numbers = [sum(draw["found"] > 0 for draw in each) for each in draws]
    return f"{numbers[0]} of {DRAWS}" if len(set(numbers)) == 1 else f"{' and '.join(map(str, numbers))} of {DRAWS}"


def delay(draws: Iterable[Draw]) -> str:
    """Steps taken after the wrong one before it was found."""
    after = [draw["found"] - draw["at"] for draw in draws if draw["found"]]
    return "–" if not after else f"{min(after)}" if min(after) == max(after) else f"{min(after)} … {max(after)}"


def named(draws: Iterable[Draw]) -> str:
    """The most frequent names, with how often."""
    names = Counter(f"{draw['place']}: {draw['tensor']}" for draw in draws if draw["found"])
    return ", ".join(f"{name} ({count})" for name, count in names.most_common(3)) or "–"


def rate_table(found: Found) -> str:
    """From the share of wrong products that are found to the steps until the first of them, for the network at full size."""
    recipe = from_toml((ROOT / "job" / "recipes" / "accept.toml").read_text(), "accept")
    products = recipe.batch_size * recipe.architecture().flop / 2
    draws = [draw for case in CASES if CASES[case].fault.kind == "product" for one in both(found, case) for draw in one]
    share = sum(draw["found"] > 0 for draw in draws) / len(draws)
    lines = ["| wrong products | in a step | steps until one is found, on average |", "|---|---|---|"]
    for rate in RATES:
        lines.append(f"| 1 in {1 / rate:.0e} | {rate * products:.3g} | {max(1.0, 1 / (rate * products * share)):.3g} |")
    text = f"A step multiplies {products:.3g} times; of {len(draws)} wrong products {share:.0%} were found."
    return f"{text}\n\n" + "\n".join(lines)


def both(found: Found, case: str) -> Iterator[list[Draw]]:
    for engine in ENGINES:
        for precision in PRECISIONS:
            yield found[engine][f"{case}/{precision}"]


def main(path: Path) -> None:
    found = measured()
    tables = {"detection": fault_table(found), "rates": rate_table(found)}
    print("\n\n".join(tables.values()))
    path.write_text(drawn(path.read_text(), tables))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
