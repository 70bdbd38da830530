"""Rules that find common problems of a run in its figures.  Each finding says what was measured, when, and what to change."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median

from job.analysis.previous_attempt import NEAR_LIMIT, memory, memory_share
from job.core.records import EpochLine, Finding, Purpose
from job.core.resource_records import AttemptRow

Time = Mapping[Purpose, float]
Rows = Sequence[AttemptRow]

IDLE_GPU = 60.0
"""median GPU utilisation, in %, below which the GPU counts as waiting"""
BUSY_HOST = 0.9
"""share of its CPUs that the process uses, from which on the host counts as the reason"""
DATA_SHARE = 0.1
"""share of the training time spent on preparing steps, from which on the host counts as the reason"""
THROTTLED = 0.1
"""share of the samples (GPU), or of the time (CPU quota), from which on throttling is reported"""
STALLED = 0.05
"""share of the time above which waiting for checkpoints or for the store is reported"""
START_UP = 0.3
"""share of the time from which on start-up is reported"""
FEW_ROWS = 5
"""samples below which a rule says nothing"""
THERMAL, POWER = {"thermal", "hardware_thermal"}, {"power_cap", "power_brake", "hardware_slowdown"}
"""names in job.telemetry.nvml.THROTTLE_REASONS; the other reasons are settings, not problems"""


def findings(
    *, time: Time, rows: Rows, checkpoint: Mapping[str, float] | None = None, epochs: Sequence[EpochLine] = (), tested: int = 0
) -> list[Finding]:
    """The findings, as dicts.  `time`: seconds by purpose (job.core.time_ledger); `rows`: resource samples of all attempts
    (job.telemetry.sampler); `checkpoint`: store_seconds of the last one and interval_seconds between two; `tested`: the epoch
    whose weights are the result, of `epochs`."""
    rules = (
        lost_weights(epochs, tested),
        idle_device(time, rows),
        near_memory_limit(rows),
        near_device_memory_limit(rows),
        killed(rows),
        throttled_cpu(rows),
        throttled_gpu(rows, THERMAL, "The GPU is too hot for its clock", "Look at the node's cooling, or use another node."),
        throttled_gpu(rows, POWER, "The GPU's power is limited", "Look at the card's power limit (nvidia-smi -q -d POWER) and supply."),
        checkpoint_stalls(time),
        slow_store(time, checkpoint),
        start_up(time),
    )
    return [finding for finding in rules if finding]


def lost_weights(epochs: Sequence[EpochLine], tested: int) -> Finding | None:
    """The result is of other weights than those that were best on the validation images."""
    accuracies = {line["epoch"]: line["validation_accuracy"] for line in epochs if "validation_accuracy" in line}
    best = max(accuracies, key=lambda epoch: accuracies[epoch], default=tested)
    if tested not in accuracies or accuracies[best] == accuracies[tested]:
        return None
    return Finding(
        title="The best weights were lost",
        seen=f"Epoch {best} had {accuracies[best]:.2%} on the validation images, but its checkpoint was damaged or gone; the results are "
        f"those of epoch {tested}, with {accuracies[tested]:.2%}.",
        when=f"epoch {best}",
        change="Find out what damages or deletes objects of the store; the log names the checkpoint.",
    )


def idle_device(time: Time, rows: Rows) -> Finding | None:
    """Low utilisation while steps are taken; start-up and evaluation do not count."""
    known = [(row, _utilization(row)) for row in _at_work(rows)]
    busy = [(row, value) for row, value in known if value is not None]
    if len(busy) < FEW_ROWS or (usual := median(value for _, value in busy)) >= IDLE_GPU:
        return None
    cores = median(row.get("process_cpu_cores", 0.0) for row, _ in busy)
    limit = busy[-1][0].get("container_cpu_limit_cores")
    working = time.get("data", 0.0) + time.get("step", 0.0)
    data = time.get("data", 0.0) / working if working else 0.0
    host_is_slow = data >= DATA_SHARE or (limit is not None and cores >= BUSY_HOST * limit)
    quota = f" of {limit:g}" if limit is not None else ""
    return Finding(
        title="The GPU waits for the host",
        seen=f"Its utilisation was {usual:.0f} % in the median; the process used {cores:.1f}{quota} CPUs, and {data:.0%} of the training "
        "time went into preparing steps.",
        when=_when([row for row, value in busy if value < IDLE_GPU], len(busy)),
        change="Give the container more CPUs." if host_is_slow else "Raise batch_size, so that a step takes longer than its launch.",
    )


def near_memory_limit(rows: Rows) -> Finding | None:
    near = [row for row in rows if memory_share(row) >= NEAR_LIMIT]
    if not near:
        return None
    row = max(near, key=memory_share)
    share, (used, limit, whose) = memory_share(row), memory(row)
    return Finding(
        title=f"Memory near the {whose}'s limit",
        seen=f"{used / 1e9:.2f} of {limit / 1e9:.2f} GB were in use ({share:.0%}); at 100 % the kernel kills the process (exit code 137).",
        when=f"{_when(near, len(rows))}; most {_at(row)}",
        change="Raise the memory limit of the container, or use a node with more memory.",
    )


def near_device_memory_limit(rows: Rows) -> Finding | None:
    def share(row: AttemptRow) -> float:
        return max(
            (g["memory_used_bytes"] / g["memory_total_bytes"] for g in row.get("gpus", ()) if g.get("memory_total_bytes")), default=0.0
        )

    near = [row for row in rows if share(row) >= NEAR_LIMIT]
    if not near:
        return None
    row = max(near, key=share)
    return Finding(
        title="GPU memory near its limit",
        seen=f"{share(row):.0%} of it were in use; a little more, and the run ends.",
        when=f"{_when(near, len(rows))}; most {_at(row)}",
        change="Lower batch_size, use precision = bf16, or a GPU that nobody else uses.",
    )


def killed(rows: Rows) -> Finding | None:
    seen = [row for row in rows if row.get("container_out_of_memory_kills")]
    if not seen:
        return None
    return Finding(
        title="The kernel killed a process of this container for its memory",
        seen=f"{max(row['container_out_of_memory_kills'] for row in seen)} times.",
        when=f"first {_at(seen[0])}",
        change="Raise the memory limit of the container.",
    )


def throttled_cpu(rows: Rows) -> Finding | None:
    known = [row for row in rows if "container_throttled_seconds_per_second" in row]
    waited = sum(row["container_throttled_seconds_per_second"] * row["interval_seconds"] for row in known)
    lasted = sum(row["interval_seconds"] for row in known)
    if len(known) < FEW_ROWS or waited < THROTTLED * lasted:
        return None
    limit = known[-1].get("container_cpu_limit_cores")
    quota = f" of {limit:g} CPUs" if limit is not None else ""
    return Finding(
        title="The CPU quota holds the process back",
        seen=f"Its threads waited {waited:.1f} s for the quota{quota}, within {lasted:.1f} s.",
        when=_when([row for row in known if row["container_throttled_seconds_per_second"] >= THROTTLED], len(known)),
        change="Raise the CPU limit of the container, or give fewer --threads.",
    )


def throttled_gpu(rows: Rows, reasons: set[str], title: str, change: str) -> Finding | None:
    known = [(row, {name for g in row["gpus"] for name in g.get("throttle_reasons", ())} & reasons) for row in rows if row.get("gpus")]
    held = [(row, names) for row, names in known if names]
    if len(known) < FEW_ROWS or len(held) < THROTTLED * len(known):
        return None
    names = ", ".join(sorted({name for _, found in held for name in found}))
    clock = min((g["sm_clock_mhz"] for row, _ in held for g in row["gpus"] if "sm_clock_mhz" in g), default=None)
    slowed = f" Its clock fell to {clock} MHz." if clock is not None else ""
    return Finding(
        title=title, seen=f"The driver gives as reason: {names}.{slowed}", when=_when([row for row, _ in held], len(known)), change=change
    )


def checkpoint_stalls(time: Time) -> Finding | None:
    total, stalled = sum(time.values()), time.get("checkpoint stall", 0.0)
    if not total or stalled / total <= STALLED:
        return None
    return Finding(
        title="Checkpoints stall the training",
        seen=f"Training stood still for {stalled:.1f} s ({stalled / total:.0%} of the time) while they were written to the spool.",
        when="over the whole run",
        change="Store fewer (--checkpoint-minutes), or put --spool on a faster disk.",
    )


def slow_store(time: Time, checkpoint: Mapping[str, float] | None) -> Finding | None:
    total, waited = sum(time.values()), time.get("upload wait", 0.0)
    slow = checkpoint is not None and checkpoint["store_seconds"] > checkpoint["interval_seconds"] > 0
    if not slow and (not total or waited / total <= STALLED):
        return None
    detail = ""
    if checkpoint is not None:
        took, interval = checkpoint["store_seconds"], checkpoint["interval_seconds"]
        detail = f" The last checkpoint took {took:.1f} s to store, and a new one comes every {interval:.1f} s."
    return Finding(
        title="The store is slower than the checkpoints come",
        seen=f"Training waited {waited:.1f} s for room in the spool.{detail}",
        when="over the whole run",
        change="Store fewer (--checkpoint-minutes), raise --spool-limit, or use a faster store.",
    )


def start_up(time: Time) -> Finding | None:
    total, spent = sum(time.values()), time.get("start-up", 0.0)
    if not total or spent / total < START_UP:
        return None
    return Finding(
        title="Start-up dominates this short run",
        seen=f"{spent:.1f} of {total:.1f} s went into loading the framework, the data and the device.",
        when="before the first step of each attempt",
        change="Measure speed by images/s or on a longer run; the wall time says little here.",
    )


def _utilization(row: AttemptRow) -> float | None:
    """In %, the mean over the GPUs that tell it."""
    values = [gpu["utilization_percent"] for gpu in row.get("gpus", ()) if "utilization_percent" in gpu]
    return sum(values) / len(values) if values else None


def _at_work(rows: Rows) -> Iterator[AttemptRow]:
    """Rows in whose interval steps were taken."""
    for before, row in pairwise(rows):
        if row.get("step", 1) != before.get("step", 0) and row.get("attempt") == before.get("attempt"):
            yield row


def _when(rows: Rows, among: int) -> str:
    """How many of `among` samples these rows are, and from which step to which."""
    steps = f", from step {rows[0]['step']} to {rows[-1]['step']}" if rows and "step" in rows[0] and "step" in rows[-1] else ""
    return f"in {len(rows)} of {among} samples{steps}"


def _at(row: AttemptRow) -> str:
    return f"at step {row['step']}" if "step" in row else "in mid-run"
