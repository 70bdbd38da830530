"""What became of the attempt before this one: where it left no word, its last resource sample may tell."""

import json
from collections.abc import Mapping
from typing import Any

from job.runs.results import attempts_of
from job.runs.run import Run

Row = Mapping[str, Any]

NEAR_LIMIT = 0.9
"""share of the memory"""


def predecessor(run: Run) -> str | None:
    """A line about the attempt before this one, where it left no end.json; None where it did, or there was none."""
    others = [attempt for attempt in attempts_of(run) if attempt.name < run.attempt]
    if not others or others[-1].end is not None:
        return None
    why = probably_out_of_memory(last_row(run, others[-1].name)) or "killed, or its node was lost"
    return f"attempt {others[-1].name} ended without a word: {why}"


def last_row(run: Run, attempt: str) -> Row:
    """The newest resource sample that an attempt has stored; empty without one."""
    segments = run.store.list(run.key("attempts", attempt, "resources-"))
    if not segments:
        return {}
    lines = run.store.get(max(segments, key=lambda entry: (len(entry.key), entry.key)).key).splitlines()
    return json.loads(lines[-1]) if lines else {}


def probably_out_of_memory(row: Row) -> str | None:
    """What the last sample of an attempt without an end says, or None."""
    if row.get("container_out_of_memory_kills"):
        return "out of memory: the kernel had killed a process of its container"
    used, limit, whose = memory(row)
    return (
        f"probably out of memory: in its last sample {used / 1e9:.2f} of the {whose}'s {limit / 1e9:.2f} GB were in use"
        if (memory_share(row) >= NEAR_LIMIT)
        else None
    )


def memory(row: Row) -> tuple[float, float, str]:
    """(used, limit, whose) in bytes: the container's where it has a limit, else the node's; zeros where neither is known."""
    for whose, used, limit in (
        ("container", "container_memory_bytes", "container_memory_limit_bytes"),
        ("node", "host_memory_used_bytes", "host_memory_total_bytes"),
    ):
        if row.get(used) is not None and row.get(limit):
            return row[used], row[limit], whose
    return 0.0, 0.0, "node"


def memory_share(row: Row) -> float:
    used, limit, _ = memory(row)
    return used / limit if limit else 0.0
