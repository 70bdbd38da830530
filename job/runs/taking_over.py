"""Two Jobs on one run must not take it from each other until both are out of retries: the one that comes later waits for a sign of life.

Only attempts that a Job started are asked for, since only these come back when they have left.  A pod that replaces one of its own Job
takes over at once.  docs/design.md, "Two processes on one run".
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from job.core.exits import Exit, JobError
from job.core.identity_records import Claim
from job.runs.heartbeat import SECONDS
from job.runs.run import Run

SILENT = 2.5 * SECONDS
"""seconds without a sign of life, by the store's clock, after which an attempt counts as gone"""
POLL = 5.0
"""seconds between two looks"""


def wait_for_other_job(run: Run, claim: Claim, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Return when no attempt of another Job is at work on the run: there is none, it has ended, or it was silent for SILENT seconds.

    Raises JobError (77) when such an attempt gives a sign of life meanwhile."""
    mine, seen = job_of(claim), None
    while mine is not None:
        newest = max(run.attempts(), default=None)
        other = None if newest is None else run.claim_of(newest)
        theirs = None if other is None else job_of(other)
        if newest is None or theirs is None or theirs.is_same(mine):
            return
        objects = run.store.list(run.key("attempts", newest) + "/")
        last = max((entry.modified for entry in objects), default=0.0)
        age = run.store.now() - last
        if age > SILENT or any(entry.key.endswith("/end.json") for entry in objects):
            return
        if seen is None:
            seen = (newest, last)
            say(f"run {run.id}: attempt {newest} of the Job {theirs} gave a sign of life {age:.0f} s ago; waiting for the next one")
        elif seen != (newest, last):
            raise JobError(
                Exit.SUPERSEDED,
                f"run {run.id}: attempt {newest} of the Job {theirs} is at work on it, so this Job, {mine}, leaves it alone. "
                f"Delete one of the two. If the other one falls silent, a pod of this one takes over after {SILENT:.0f} s.",
            )
        sleep(POLL)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Of a cluster."""

    name: str
    """with its namespace"""
    uid: str | None
    """None: an older version, or a manifest of one's own, did not tell it"""

    def __str__(self) -> str:
        return f"{self.name} (uid {self.uid})" if self.uid else self.name

    def is_same(self, other: "Job") -> bool:
        """A name comes again, in another cluster or after a Job was deleted."""
        return self.uid == other.uid if self.uid and other.uid else self.name == other.name


def job_of(claim: Claim) -> Job | None:
    """None: no Job started this attempt."""
    job = claim.get("job")
    return Job(name=f"{claim.get('namespace') or 'default'}/{job}", uid=claim.get("job_uid")) if job else None
