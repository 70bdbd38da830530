"""What became of the attempt before this one: where it left no word, its last resource sample may tell."""

import json

from job.core.resource_records import ResourceRow
from job.runs.results import attempts_of
from job.runs.run import Run

NEAR_LIMIT = 0.9
"""share of the memory"""


def predecessor(run: Run) -> str | None:
    """A line about the attempt before this one, where it left no end.json; None where it did, or there was none."""
    others = [attempt for attempt in attempts_of(run) if attempt.name < run.attempt]
    if not others or others[-1].end is not None:
        return None
    row = last_row(run, others[-1].name)
    why = (row and probably_out_of_memory(row)) or "killed, or its node was lost"
    return f"attempt {others[-1].name} ended without a word: {why}"


def last_row(run: Run, attempt: str) -> ResourceRow | None:
    """The newest resource sample that an attempt has stored; None without one."""
    segments = run.store.list(run.key("attempts", attempt, "resources-"))
    if not segments:
        return None
    lines = run.store.get(max(segments, key=lambda entry: (len(entry.key), entry.key)).key).splitlines()
    newest: ResourceRow | None = json.loads(lines[-1]) if lines else None
    return newest


def probably_out_of_memory(row: ResourceRow) -> str | None:
    """What the last sample of an attempt without an end says, or None."""
    if row.get("container_out_of_memory_kills"):
        return "out of memory: the kernel had killed a process of its container"
    used, limit, whose = memory(row)
    return (
        f"probably out of memory: in its last sample {used / 1e9:.2f} of the {whose}'s {limit / 1e9:.2f} GB were in use"
        if (memory_share(row) >= NEAR_LIMIT)
        else None
    )


def memory(row: ResourceRow) -> tuple[float, float, str]:
    """(used, limit, whose) in bytes: the container's where it has a limit, else the node's; zeros where neither is known."""
    for whose, used, limit in (
        ("container", row.get("container_memory_bytes"), row.get("container_memory_limit_bytes")),
        ("node", row.get("host_memory_used_bytes"), row.get("host_memory_total_bytes")),
    ):
        if used is not None and limit:
            return used, limit, whose
    return 0.0, 0.0, "node"


def memory_share(row: ResourceRow) -> float:
    used, limit, _ = memory(row)
    return used / limit if limit else 0.0
