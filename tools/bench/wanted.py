"""What must be reached, what was measured, and whether it is enough."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from job.analysis.formatting import columns
from job.core.resource_records import Spread

Found = Mapping[str, Any]
FRAMEWORKS = {"torch": "Lightning", "tensorflow": "model.fit"}
MEMORY = {"torch": 2.2e9, "tensorflow": 2.5e9}
FIRST_STEP = {"torch": 8.0, "tensorflow": 12.0}
UTILIZATION = {"torch": 0.92, "tensorflow": 0.95}


@dataclass(frozen=True, kw_only=True)
class Row:
    figure: str
    wanted: str
    measured: str
    answer: str
    """yes, no, or – where it was not measured"""


def at_least(figure: str, bound: float, found: Spread | float | None, why_not: str = "") -> Row:
    value = found["median"] if isinstance(found, dict) else found
    text = why_not if value is None else f"{value:.2f}"
    if isinstance(found, dict):
        text += f" ({found['least']:.2f} … {found['greatest']:.2f})"
    return _row(figure, f"≥ {bound:g}", value, text, value is not None and value >= bound)


def at_most(figure: str, bound: str, limit: float, value: float | None, text: str, why_not: str = "") -> Row:
    return _row(figure, f"≤ {bound}", value, text if value is not None else why_not, value is not None and value <= limit)


def _row(figure: str, wanted: str, value: float | None, measured: str, reached: bool) -> Row:
    return Row(figure=figure, wanted=wanted, measured=measured, answer="–" if value is None else "yes" if reached else "no")


def rows(report: Found) -> Iterator[Row]:
    """`report`: what `tools.bench` measured; `objections`: part → why its figures must not be compared."""
    precisions, main = report["plan"]["precisions"], report["plan"]["precisions"][-1]
    steps, programs, first = (_quiet(report, part) for part in ("steps", "programs", "first_step"))
    for engine in report["plan"]["engines"]:
        for precision in precisions:
            found, why_not = _one(steps, f"{engine} {precision}")
            quotient = None if found is None else found["over_plain"]
            yield at_least(f"{engine}, {precision}: our bare step ÷ the plain step of a good user", 1.05, quotient, why_not)
        found, why_not = _one(steps, f"{engine} {main}")
        quotient = None if found is None else found["utilization"]
        yield at_least(f"{engine}, {main}: our bare step's FLOP/s ÷ products of matrices", UTILIZATION[engine], quotient, why_not)
        ours, why_no_job = _one(programs, f"{engine} {main} ours")
        value = None if ours is None or found is None else _speed(ours) / found["images_per_second"]["median"]
        yield at_least(f"{engine}, {main}: whole job, evaluation aside ÷ bare step", 0.97, value, why_no_job or why_not)
        for name, precision, bound, label in (
            ("original", "fp32", 2.5, f"our job ({main}) ÷ the original program (fp32)"),
            ({"torch": "lightning"}.get(engine, "fit"), main, 1.1, f"our job ÷ {FRAMEWORKS[engine]}, both {main}"),
        ):
            theirs, why_not = _one(programs, f"{engine} {precision} {name}")
            value = None if ours is None or theirs is None else _speed(ours) / _speed(theirs)
            yield at_least(f"{engine}: {label}", bound, value, why_no_job or why_not)
        value = None if ours is None else ours["checkpoint_stall"]["median"]
        text = "" if value is None else f"{value:.2%}"
        yield at_most(f"{engine}: checkpoint stall, one in five minutes", "0.3 %", 0.003, value, text, why_no_job)
        start, why_not = _one(first, engine)
        value, bound = None if start is None else start["seconds"], FIRST_STEP[engine]
        yield at_most(f"{engine}: command to first step, data on disk", f"{bound:g} s", bound, value, f"{value or 0:.1f} s", why_not)
        start, why_not = _one(report.get("first_step", "not measured"), engine)  # neighbours do not change it
        value, bound = None if start is None else start["peak_host_memory_bytes"], MEMORY[engine]
        text = f"{(value or 0) / 1e9:.2f} GB"
        yield at_most(f"{engine}: peak host memory, a dataset of CIFAR-10's size", f"{bound / 1e9:g} GB", bound, value, text, why_not)
    yield Row(figure="make test, on 2 cores", wanted="≤ 12 min", measured="time it by itself", answer="–")


def table(found: Sequence[Row]) -> str:
    return columns([["figure", "wanted", "measured", ""], *([row.figure, row.wanted, row.measured, row.answer] for row in found)])


def _speed(program: Found) -> float:
    return float(program["images_per_second"]["median"])


def _quiet(report: Found, part: str) -> Found | str:
    """The part's figures, or why there are none to compare."""
    if report.get("objections", {}).get(part):
        return "the machine was not quiet"
    return report.get(part) or "not measured"


def _one(part: Found | str, name: str) -> tuple[Found | None, str]:
    """(figures, why there are none)."""
    if isinstance(part, str):
        return None, part
    return (part[name], "") if name in part else (None, "not installed" if "lightning" in name else "not measured")
