"""`python -m tools.faults docs/parity.md`: where planted faults are caught, and how far two sound engines are apart.

Each fault of `tests.engines.planted` is planted in each engine, and traced against the sound other engine in fp64, fp32 and bf16.  The
tables of the document that stand between `<!-- NAME -->` and `<!-- end -->` are drawn anew.  About ten minutes on two cores.
"""

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from job.engines import ENGINES
from job.parity.compare import KINDS, Parity, compare
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


def worst(parity: Parity, kind: str) -> float | None:
    """The largest relative difference that is judged."""
    return max((d.relative for d in parity.differences if d.kind == kind and d.limit is not None), default=None)


def sound_table(found: Traced) -> str:
    """The worst over all recipes."""
    kinds = [kind for kind in KINDS if any(compare_limits(kind))]
    lines = ["| | " + " | ".join(f"{precision} | limit" for precision in PRECISIONS) + " |", "|---" * (1 + 2 * len(PRECISIONS)) + "|"]
    parities = {
        precision: [compare(*(found(engine, f"{recipe}-{precision}") for engine in ENGINES)) for recipe in RECIPES]
        for precision in PRECISIONS
    }
    for kind in kinds:
        cells = []
        for precision in PRECISIONS:
            numbers = [n for parity in parities[precision] if (n := worst(parity, kind)) is not None]
            limits = {parity.limits[kind] for parity in parities[precision] if kind in parity.limits}
            cells.append(f"{max(numbers):.1e}" if numbers else "")
            cells.append(", ".join(f"{limit:.0e}" for limit in sorted(limits)) or "none")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare_limits(kind: str) -> list[float]:
    from job.parity.compare import LIMITS

    return [limits[kind] for limits in LIMITS.values() if kind in limits]


def drawn(document: str, tables: dict[str, str]) -> str:
    """The document with its tables anew."""
    for name, table in tables.items():
        document = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", document, flags=re.DOTALL)
    return document


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = traced(Path(folder), [*SOUND, *FAULTY])
        tables = {"faults": fault_table(found), "sound": sound_table(found)}
    print("\n\n".join(tables.values()))
    path.write_text(drawn(path.read_text(), tables))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
