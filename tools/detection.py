"""`python -m tools.detection docs/accept.md [ENGINE…]`: which faults of hardware `alexnet accept` finds, and how soon.

Each case of `tests.engines.hardware` is planted in each engine and precision, again and again.  The tables of the document that stand
between `<!-- NAME -->` and `<!-- end -->` are drawn anew.  About five minutes of processor time.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from job.core.recipe import from_toml
from job.engines import ENGINES
from tests.engines.hardware import CASES, Draw
from tools.faults import drawn

ROOT = Path(__file__).parents[1]
PRECISIONS = ("bf16", "fp32")
RATES = (1e-9, 1e-10, 1e-11, 1e-12)
Found = dict[str, dict[str, list[Draw]]]
"""engine → case/precision → draws"""


def measured(engines: Iterable[str]) -> Found:
    """One process for each engine, one after the other."""
    found = {}
    for engine in engines:
        command = [sys.executable, "-m", "tests.engines.hardware", engine]
        found[engine] = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
    return found


def fault_table(found: Found) -> str:
    head = f"| {' and '.join(found)}: fault | where | bit | found, bf16 | found, fp32 | steps until then | named | loss spike or NaN |"
    lines = [head, "|---" * 8 + "|"]
    for case in CASES:
        what, place, bit = case.split("|")
        draws = [draw for one in of_all(found, case) for draw in one]
        cells = [counts([cases[f"{case}/{precision}"] for cases in found.values()]) for precision in PRECISIONS]
        seen = f"{sum(draw['spike'] for draw in draws)} of {len(draws)}"
        lines.append(f"| {what} | {place} | {bit} | {' | '.join(cells)} | {delay(draws)} | {named(draws)} | {seen} |")
    return "\n".join(lines)


def counts(draws: Sequence[list[Draw]]) -> str:
    """Of each engine; once where they agree."""
    numbers = [sum(draw["found"] > 0 for draw in each) for each in draws]
    return f"{numbers[0] if len(set(numbers)) == 1 else ' and '.join(map(str, numbers))} of {len(draws[0])}"


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
    draws = [draw for case in CASES if CASES[case].fault.kind == "product" for one in of_all(found, case) for draw in one]
    count = sum(draw["found"] > 0 for draw in draws)
    share = max(count, 1) / len(draws)
    lines = ["| wrong products | in a step | steps until one is found, on average |", "|---|---|---|"]
    for rate in RATES:
        lines.append(f"| 1 in {1 / rate:.0g} | {rate * products:.3g} | {max(1.0, 1 / (rate * products * share)):.3g} |")
    effect = f"{count} had an effect, all of them found" if count else "none had an effect; the table takes it that one has"
    text = f"A step at full size multiplies {products:.3g} times. Of {len(draws)} wrong products {effect}."
    return f"{text}\n\n" + "\n".join(lines)


def of_all(found: Found, case: str) -> Iterator[list[Draw]]:
    """Engines and precisions."""
    for cases in found.values():
        for precision in PRECISIONS:
            yield cases[f"{case}/{precision}"]


def main(path: Path, engines: Sequence[str]) -> None:
    found = measured(engines or ENGINES)
    tables = {"detection": fault_table(found), "rates": rate_table(found)}
    print("\n\n".join(tables.values()))
    path.write_text(drawn(path.read_text(), tables))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
