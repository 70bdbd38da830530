"""When each attempt worked on a run and reached its checkpoints, as far as claims, ends and resource samples show."""

from collections.abc import Sequence
from dataclasses import dataclass

from job.core.identity_records import Claim
from job.core.resource_records import AttemptRow
from job.runs.checkpoint import CheckpointName
from job.runs.results import Attempt, Results


@dataclass(frozen=True, kw_only=True)
class Span:
    """The time of one attempt, in seconds since 1970."""

    attempt: str
    begin: float
    end: float
    last_sign: bool
    """True: the attempt stored no end.json, so `end` is its last sign of life"""
    checkpoints: dict[int, float]
    """step → time at which it was reached, for each stored checkpoint"""


def timeline(run: Results) -> list[Span]:
    """One span for each attempt, oldest first; attempts whose claim has no start time are left out."""
    return [_span(run, attempt, claim) for attempt in run.attempts if (claim := attempt.claim) and claim.get("started")]


def stored_steps(run: Results, attempt: str) -> list[int]:
    """Steps of the attempt's checkpoints that are in the store, ascending."""
    names = map(CheckpointName.parse, run.checkpoints)
    return sorted(name.step for name in names if name is not None and name.attempt == attempt)


def _span(run: Results, attempt: Attempt, claim: Claim) -> Span:
    begin = float(claim["started"])
    rows = [row for row in run.resources if row["attempt"] == attempt.name]
    newest = attempt.name == run.attempts[-1].name
    spent = sum(run.summary.get("time", {}).values()) if newest and len(run.attempts) == 1 else 0.0  # the time is that of all attempts
    end = max([begin + spent, *(row["time"] for row in rows)])
    reached = {step: at for step in stored_steps(run, attempt.name) if (at := _reached(rows, step)) is not None}
    if newest and end > begin and (last := run.summary.get("steps")) in stored_steps(run, attempt.name):
        reached.setdefault(last, end)  # the last step lies after the last sample
    return Span(attempt=attempt.name, begin=begin, end=end, last_sign=attempt.end is None, checkpoints=reached)


def _reached(rows: Sequence[AttemptRow], step: int) -> float | None:
    """Time of the first sample at or after `step`; None without one."""
    return next((row["time"] for row in rows if row.get("step", -1) >= step), None)
