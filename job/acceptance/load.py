"""What the machine did while the rounds were running, from the sampler's rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from job.bench.figures import spread
from job.core.acceptance_records import LoadFigures
from job.core.resource_records import ResourceFacts, ResourceRow

Figure = Literal["power_watts", "temperature_celsius", "sm_clock_mhz", "memory_clock_mhz", "utilization_percent"]
FIGURES: tuple[Figure, ...] = ("power_watts", "temperature_celsius", "sm_clock_mhz", "memory_clock_mhz", "utilization_percent")


def figures(rows: Sequence[ResourceRow], facts: ResourceFacts, seconds: float) -> LoadFigures:
    """`rows`: of one process with one GPU at most; `facts`: their totals."""
    gpus = [row["gpus"][0] for row in rows if row.get("gpus")]
    found: LoadFigures = {"seconds": round(seconds, 3)}
    for name in FIGURES:
        if values := [gpu[name] for gpu in gpus if name in gpu]:
            found[name] = spread(values)
    if reasons := [gpu["throttle_reasons"] for gpu in gpus if "throttle_reasons" in gpu]:
        found["throttled"] = shares(reasons)
    if "energy_joules" in facts:
        found["energy_joules"] = facts["energy_joules"]
    if any(gpu["lost"] for gpu in facts["gpus"]):
        found["lost"] = True
    if "container_throttled_seconds" in facts:
        found["container_throttled_seconds"] = facts["container_throttled_seconds"]
    if (limit := facts["container"]["cpus"]) is not None:
        found["container_cpu_limit_cores"] = limit
    return found


def shares(reasons: Sequence[Iterable[str]]) -> dict[str, float]:
    """Reason → share of the samples."""
    counted = Counter(reason for row in reasons for reason in row)
    return {reason: round(count / len(reasons), 4) for reason, count in counted.items()}
