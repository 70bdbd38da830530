"""How well a run used its machine: time, speed, memory and energy, as figures for the summary and as lines for the log."""

from collections.abc import Mapping, Sequence

import numpy as np

from job.core.records import Efficiency, MetricsLine, Purpose, Summary
from job.core.resource_records import AttemptRow, ResourceFacts
from job.core.throughput import Steps
from job.core.time_ledger import goodput


def efficiency(
    *,
    totals: Mapping[Purpose, float],
    wall_seconds: float,
    steps: Steps,
    lines: Sequence[MetricsLine],
    flop: float,
    resources: ResourceFacts,
) -> Efficiency:
    """For summary.json.  `totals`, seconds by purpose, and `wall_seconds` over all attempts; `lines` of metrics.jsonl; `flop` of one image
    in a training step, the mean over `steps`; `resources`: what `Sampler.stop` told.

    Energy counts only the epochs that were measured as a whole, so that it belongs to the images by which it is divided."""
    typical = steps.typical
    found: Efficiency = {
        "time": {name: round(seconds, 2) for name, seconds in totals.items()},
        "wall_seconds": round(wall_seconds, 2),
        "goodput": None if (share := goodput(totals, wall_seconds)) is None else round(share, 4),
        "images_per_second_p5": None if typical is None else float(np.percentile(steps.speeds, 5)),
        "flop_per_second": None if typical is None else typical * flop,
        "resources": resources,
    }
    measured = [line for line in lines if line["kind"] == "epoch" and line.get("energy_joules")]
    if measured:
        joules, images = sum(line["energy_joules"] for line in measured), sum(line["train_images"] for line in measured)
        found["energy_joules_per_epoch"], found["images_per_joule"] = round(joules / len(measured), 1), images / joules
    return found


def wall_seconds(rows: Sequence[AttemptRow], attempt: str, own: float) -> float:
    """Of all attempts: `own` seconds of this one, plus the age of each earlier one's process in the last sample that it stored."""
    ages = {row["attempt"]: row["process_seconds"] for row in rows if row["attempt"] != attempt and "process_seconds" in row}
    return own + sum(ages.values())


def closing_lines(summary: Summary) -> list[str]:
    """Lines for the end of the log: time, speed, memory, energy, and each finding."""
    time, resources = summary["time"], summary["resources"]
    total = sum(time.values()) or 1.0
    parts = ", ".join(f"{name} {seconds:.1f} s ({seconds / total:.0%})" for name, seconds in time.items() if seconds >= 0.05)
    share = "" if summary["goodput"] is None else f"; goodput {summary['goodput']:.0%} of {summary['wall_seconds']:.0f} s in all attempts"
    found = [f"time: {parts}{share}"]
    if summary["flop_per_second"] is not None:
        low, flop = summary["images_per_second_p5"], summary["flop_per_second"]
        found.append(f"speed: {speed_text(summary)} in the median, {low:.0f} at the 5th percentile, {flop_text(flop)}")
    memory = {"host": summary.get("peak_host_memory_bytes"), "GPU": resources.get("peak_gpu_memory_bytes")}
    peaks = ", ".join(f"{size / 1e9:.2f} GB of the {whose}'s" for whose, size in memory.items() if size)
    found += [f"memory: at most {peaks}"] if peaks else []
    if summary.get("images_per_joule"):
        kilojoules = summary["energy_joules_per_epoch"] / 1e3
        found.append(f"energy: {kilojoules:.1f} kJ for an epoch, {summary['images_per_joule']:.2f} images per joule")
    return found + [f"{f['title']} ({f['when']}): {f['seen']} {f['change']}" for f in summary.get("findings", ())]


def speed_text(summary: Summary) -> str:
    """`150 images/s`, or that of each engine and device that took steps of the run."""
    several = summary["speeds"]
    if len(several) < 2:
        return f"{summary['images_per_second']:.0f} images/s"
    return ", ".join(f"{one['images_per_second']:.0f} images/s by {one['engine']} on {one['device']}" for one in several)


def flop_text(rate: float) -> str:
    """With the largest prefix from M to P that leaves at least 1."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if rate >= size:
            return f"{rate / size:.1f} {prefix}FLOP/s"
    return f"{rate / 1e6:.1f} MFLOP/s"
