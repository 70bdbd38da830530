"""What the figures of a run say about its setting: a handful of rules, each finding with what was seen, when, and what to change."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from job.io.results import attempts_of, rows_of
from job.io.run import Run

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    title: str
    seen: str
    when: str
    change: str


IDLE_GPU = 60.0
"""median utilisation in % below which the device counts as waiting"""
BUSY_HOST = 0.9
"""share of its CPUs that the process uses, above which the host counts as the reason"""
NEAR_LIMIT = 0.9
THROTTLED = 0.1
STALLED = 0.05
"""share of the time"""
START_UP = 0.3
HOLDING_BACK = {"power_cap", "hardware_slowdown", "thermal", "hardware_thermal", "power_brake"}
"""of job.io.gpu.THROTTLE_REASONS; the others are settings"""
FEW_ROWS = 5


def findings(*, time: Mapping[str, float], rows: Rows, checkpoint: Mapping[str, float] | None = None) -> list[dict[str, str]]:
    """`time`: seconds by category (job.core.ledger); `rows`: resource samples; `checkpoint`: seconds between two and to store one."""
    rules = (
        idle_device(rows),
        near_memory_limit(rows),
        throttled_cpu(rows),
        throttled_gpu(rows),
        *stalls(time, checkpoint),
        start_up(time),
    )
    return [asdict(finding) for finding in rules if finding]


def idle_device(rows: Rows) -> Finding | None:
    gpu = [(row, g["utilization_percent"]) for row in rows for g in row.get("gpus", ()) if "utilization_percent" in g]
    if len(gpu) < FEW_ROWS or (usual := median(value for _, value in gpu)) >= IDLE_GPU:
        return None
    cores = [row["process_cpu_cores"] for row, _ in gpu if "process_cpu_cores" in row]
    limits = [row["container_cpu_limit_cores"] for row, _ in gpu if row.get("container_cpu_limit_cores")]
    used = median(cores) if cores else 0.0
    slow = bool(limits) and used >= BUSY_HOST * min(limits)
    reason = f"the process used {used:.1f} of {min(limits):.1f} CPUs" if slow else f"the process used {used:.1f} CPUs"
    return Finding(
        title="The GPU waits for the host",
        seen=f"Its utilisation was {usual:.0f} % in the median, while {reason}.",
        when=f"over {len(gpu)} samples",
        change="Give the container more CPUs, or raise batch_size."
        if slow
        else "Raise batch_size, so that a step is longer than its launch.",
    )


def near_memory_limit(rows: Rows) -> Finding | None:
    shares = [
        (row["container_memory_bytes"] / row["container_memory_limit_bytes"], row)
        for row in rows
        if row.get("container_memory_bytes") and row.get("container_memory_limit_bytes")
    ]
    share, row = max(shares, key=lambda pair: pair[0], default=(0.0, {}))
    if share < NEAR_LIMIT:
        return None
    used, limit = row["container_memory_bytes"] / 1e9, row["container_memory_limit_bytes"] / 1e9
    return Finding(
        title="Memory near the container's limit",
        seen=f"The working set reached {used:.2f} of {limit:.2f} GB ({share:.0%}); above 100 % the kernel kills the process (exit 137).",
        when=_at(row),
        change="Raise the container's memory limit, or lower batch_size.",
    )


def throttled_cpu(rows: Rows) -> Finding | None:
    shares = [row["container_throttled_share"] for row in rows if "container_throttled_share" in row]
    if len(shares) < FEW_ROWS or (share := sum(shares) / len(shares)) < THROTTLED:
        return None
    limit = next((row["container_cpu_limit_cores"] for row in rows if row.get("container_cpu_limit_cores")), None)
    quota = f" of {limit:g} CPUs" if limit else ""
    return Finding(
        title="The CPU quota holds the process back",
        seen=f"Its threads waited for the quota{quota} for {share:.2f} seconds in each second.",
        when=f"over {len(shares)} samples",
        change="Raise the CPU limit, or set --threads to it.",
    )


def throttled_gpu(rows: Rows) -> Finding | None:
    known = [(row, g["throttle_reasons"]) for row in rows for g in row.get("gpus", ()) if "throttle_reasons" in g]
    held = [(row, bad) for row, reasons in known if (bad := set(reasons) & HOLDING_BACK)]
    if len(known) < FEW_ROWS or len(held) < THROTTLED * len(known):
        return None
    names = sorted({name for _, reasons in held for name in reasons})
    thermal = any("thermal" in name for name in names)
    return Finding(
        title="The GPU runs below its clock",
        seen=f"It was held back in {len(held)} of {len(known)} samples, by {', '.join(names)}.",
        when=_at(held[0][0]),
        change="Look at the node's cooling." if thermal else "Look at the card's power limit (nvidia-smi -q -d POWER).",
    )


def stalls(time: Mapping[str, float], checkpoint: Mapping[str, float] | None) -> list[Finding]:
    found, total = [], sum(time.values())
    if total and (share := time.get("checkpoint stall", 0.0) / total) > STALLED:
        found.append(
            Finding(
                title="Checkpoints stall the training",
                seen=f"{time['checkpoint stall']:.1f} s ({share:.0%} of the time) went into writing them to the spool.",
                when="over the whole run",
                change="Store fewer (--checkpoint-steps), or put --spool on a faster disk.",
            )
        )
    waited = time.get("upload wait", 0.0)
    slow = checkpoint is not None and checkpoint["store_seconds"] > checkpoint["interval_seconds"] > 0
    if (total and waited / total > STALLED) or slow:
        detail = (
            f" One takes {checkpoint['store_seconds']:.1f} s to store, and a new one comes every {checkpoint['interval_seconds']:.1f} s."
            if checkpoint
            else ""
        )
        found.append(
            Finding(
                title="The store is slower than the checkpoints come",
                seen=f"Training waited {waited:.1f} s for room in the spool.{detail}",
                when="over the whole run",
                change="Store fewer (--checkpoint-steps), raise --spool-limit, or use a faster store.",
            )
        )
    return found


def start_up(time: Mapping[str, float]) -> Finding | None:
    total, spent = sum(time.values()), time.get("start-up", 0.0)
    if not total or spent / total < START_UP:
        return None
    return Finding(
        title="Start-up dominates this short run",
        seen=f"{spent:.1f} of {total:.1f} s went into loading the framework, the data and the device.",
        when="before the first step",
        change="Measure speed by images/s or on a longer run; the wall time says little here.",
    )


def probably_out_of_memory(rows: Rows) -> str | None:
    """What the last sample of an attempt without an end says, or None.  `rows` are those of that attempt."""
    last = rows[-1] if rows else {}
    used, limit = last.get("container_memory_bytes"), last.get("container_memory_limit_bytes")
    if not used or not limit or used < NEAR_LIMIT * limit:
        return None
    return f"probably out of memory: its last sample shows {used / 1e9:.2f} of {limit / 1e9:.2f} GB"


def predecessor(run: Run) -> str | None:
    """A line about the attempt before this one, where it left no end.json; None where it did, or there was none."""
    others = [attempt for attempt in attempts_of(run) if attempt.name < run.attempt]
    if not others or others[-1].end is not None:
        return None
    rows = rows_of(run, others[-1].name)
    why = probably_out_of_memory(rows) or "killed, or its node was lost"
    return f"attempt {others[-1].name} ended without a word: {why}"


def _at(row: Mapping[str, Any]) -> str:
    return f"at step {row['step']}" if "step" in row else "in mid-run"
