"""Why the attempt before this one ended: where it stored no end.json, its last resource sample can show the reason."""

from job.core.resource_records import ResourceRow
from job.runs.resource_log import last_row
from job.runs.results import attempts_of
from job.runs.run import Run

NEAR_LIMIT = 0.9
"""used memory, as a share of the limit, that counts as near it"""


def describe_previous_attempt(run: Run) -> str | None:
    """A line for the log if the attempt before this one stored no end.json; None if it did, or if this attempt is the first."""
    others = [attempt for attempt in attempts_of(run) if attempt.name < run.attempt]
    if not others or others[-1].end is not None:
        return None
    row = last_row(run, others[-1].name)
    reason = (row and probably_out_of_memory(row)) or "killed, or its node was lost"
    return f"attempt {others[-1].name} ended without a word: {reason}"


def probably_out_of_memory(row: ResourceRow) -> str | None:
    """The sign of a lack of memory in the last sample of an attempt, as a phrase; None without one."""
    if row.get("container_out_of_memory_kills"):
        return "out of memory: the kernel had killed a process of its container"
    used, limit, whose = memory(row)
    return (
        f"probably out of memory: in its last sample {used / 1e9:.2f} of the {whose}'s {limit / 1e9:.2f} GB were in use"
        if memory_share(row) >= NEAR_LIMIT
        else None
    )


def memory(row: ResourceRow) -> tuple[float, float, str]:
    """(bytes used, bytes of the limit, whose limit): the container's where it has one, else the node's; zeros where neither is known."""
    for whose, used, limit in (
        ("container", row.get("container_memory_bytes"), row.get("container_memory_limit_bytes")),
        ("node", row.get("host_memory_used_bytes"), row.get("host_memory_total_bytes")),
    ):
        if used is not None and limit:
            return used, limit, whose
    return 0.0, 0.0, "node"


def memory_share(row: ResourceRow) -> float:
    """Used memory as a share of the limit; 0 where it is not known."""
    used, limit, _ = memory(row)
    return used / limit if limit else 0.0
