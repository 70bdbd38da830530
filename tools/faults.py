"""`python -m tools.faults docs/parity.md`: where planted faults are caught, and how far two sound engines are apart.

Each fault of `tests.engines.planted` is planted in each engine, and traced against the sound other engine in fp64, fp32 and bf16.  The
tables of the document that stand between `<!-- NAME -->` and `<!-- end -->` are drawn anew.  About five minutes of processor time.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path

from job.engines import ENGINES
from job.parity.compare import BITS, LIMITS, compare, limit_key
from job.parity.difference import distance
from job.parity.tracefile import Trace
from tests.engines.planted import FAULTS
from tests.engines.traces import FAULTY, PRECISIONS, RECIPES, SOUND, traced

Traced = Callable[[str, str], Trace]
"""traced(engine, case)"""


def caught(found: Traced, engine: str, fault: str, precision: str) -> str:
    """Where a fault of `engine` is first beyond its limit, as "kind, step"; "" where it is not."""
    (other,) = set(ENGINES) - {engine}
    sound = f"{FAULTS[fault].recipe}-{precision}"
    failure = compare(found(engine, f"{fault}-{precision}"), found(other, sound)).failure
    return f"{failure.kind}, {failure.step}" if failure else ""


def fault_table(found: Traced) -> str:
    lines = ["| planted | " + " | ".join(PRECISIONS) + " |", "|---" * (1 + len(PRECISIONS)) + "|"]
    for label, fault in FAULTS.items():
        cells = []
        for precision in PRECISIONS:
            places = [caught(found, engine, label, precision) or "**not caught**" for engine in ENGINES]
            cells.append(places[0] if len(set(places)) == 1 else "; ".join(f"{e}: {p}" for e, p in zip(ENGINES, places, strict=True)))
        lines.append(f"| {fault.what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sound_table(found: Traced) -> str:
    """The largest distance of two sound engines over all recipes, by limit; in bf16 that of each from fp64 as well."""
    rows = list(dict.fromkeys(key for precision in PRECISIONS for key in LIMITS[precision] if key not in BITS))
    head = " | ".join(["", *PRECISIONS, "bf16 from fp64", *(f"limit {precision}" for precision in PRECISIONS)])
    lines = [f"|{head} |", "|---" * (2 + 2 * len(PRECISIONS)) + "|"]
    columns = [apart(found, precision) for precision in PRECISIONS]
    columns.append(from_exact(found))
    for row in rows:
        cells = [f"{column[row]:.1e}" if row in column else "" for column in columns]
        limits = [f"{LIMITS[precision][row]:.2g}" if row in LIMITS[precision] else "" for precision in PRECISIONS]
        lines.append(f"| {row} | {' | '.join([*cells, *limits])} |")
    return "\n".join(lines)


def apart(found: Traced, precision: str) -> dict[str, float]:
    """Key of a limit → the largest relative difference of two sound engines that it judges."""
    largest: dict[str, float] = defaultdict(float)
    for recipe in RECIPES:
        for d in compare(*(found(engine, f"{recipe}-{precision}") for engine in ENGINES)).differences:
            if d.limit:
                key = limit_key(LIMITS[precision], d.kind, d.name)
                largest[key] = max(largest[key], d.relative)
    return largest


def from_exact(found: Traced) -> dict[str, float]:
    """Key of a limit → the largest difference of an engine's first step in bf16 from the same in fp64."""
    largest: dict[str, float] = defaultdict(float)
    for recipe, engine in product(RECIPES, ENGINES):
        rounded, exact = (found(engine, f"{recipe}-{precision}") for precision in ("bf16", "fp64"))
        for tensor in rounded.names:
            step, _, rest = tensor.partition("/")
            kind, _, name = rest.partition("/")
            if step in ("0", "other") and kind in ("activations", "logits", "evaluation", "gradients"):
                key = limit_key(LIMITS["bf16"], kind, name)
                largest[key] = max(largest[key], distance(rounded[tensor], exact[tensor], by_norm=True)[1])
    return largest


def block(document: str, name: str) -> str:
    """The table of that name."""
    return document.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]


def drawn(document: str, tables: dict[str, str]) -> str:
    """The document with its tables anew."""
    for name, table in tables.items():
        before, marker, rest = document.partition(f"<!-- {name} -->\n")
        document = before + marker + f"{table}\n" + rest[rest.index("<!-- end -->") :]
    return document


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = traced(Path(folder), [*SOUND, *FAULTY])
        tables = {"faults": fault_table(found), "sound": sound_table(found)}
    print("\n\n".join(tables.values()))
    path.write_text(drawn(path.read_text(), tables))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
