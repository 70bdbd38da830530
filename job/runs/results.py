"""A run as those who read it need it: its record, summary, metrics, predictions, attempts and resource samples.

`read_results("runs/my-run")` and `read_results("s3://bucket/prefix/my-run")` do the same.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.core.identity_records import Claim
from job.core.records import Ending, MetricsLine, RunRecord, Summary
from job.core.resource_records import AttemptRow
from job.runs.contributions import Contribution, contributions
from job.runs.listing import row_of
from job.runs.predictions import parse_predictions
from job.runs.reading import lines
from job.runs.resource_log import resources_of
from job.runs.run import ATTEMPT, RUN_ID, Run
from job.storage.errors import NotFound
from job.storage.files import sha256_of, without_secrets
from job.storage.opening import open_store

MANY = 20
"""folders that are looked into where a run is missing"""
FINAL_BYTES = 1 << 28
"""of an object below `final/`; the largest, the predictions, have 400,000 for 10,000 images"""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One process that worked on the run."""

    name: str
    """number and nonce"""
    claim: Claim | None
    """None: it is missing"""
    end: Ending | None
    """None: it is still at work, or it was killed"""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything a reader may want to know of one finished run.  N test images, C classes."""

    id: str
    url: str
    record: RunRecord
    """run.json"""
    summary: Summary
    """summary.json"""
    lines: list[MetricsLine]
    """metrics.jsonl: one per logging interval and per epoch"""
    logits: NDArray[np.float32]
    """(N, C) on the test set"""
    labels: NDArray[np.uint8]
    """(N,)"""
    attempts: list[Attempt] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    """names of those that are stored, newest first"""
    resources: list[AttemptRow] = field(default_factory=list)
    """rows of all attempts' resources-*.jsonl, thinned"""
    plots: dict[str, bytes] = field(default_factory=dict)
    """PNG files of the run by their names without ending: accuracy, loss, confusion, mistakes …"""

    @property
    def contributions(self) -> list[Contribution]:
        """Which attempts took the steps that the result rests on, in order; the last one wrote the results."""
        return contributions(self.summary, self.record["threads"])


def open_run(url: str) -> Run:
    """The run at `FOLDER/ID` or `s3://bucket/prefix/ID`.  Raises JobError (2) where there is no run."""
    if "://" in url and ("?" in url or not url.startswith(("s3://", "file:///"))):
        raise JobError(Exit.USAGE, f"{without_secrets(url)} (and what follows) names no run. Expected FOLDER/ID or s3://bucket/prefix/ID.")
    parent, _, name = url.rstrip("/").rpartition("/")
    if parent in ("s3:/", "s3:"):
        raise JobError(Exit.USAGE, f"{url}: expected a run, such as s3://bucket/prefix/RUN. `alexnet runs {url}` lists what is there.")
    if not RUN_ID.fullmatch(name):
        raise JobError(Exit.USAGE, f"{url}: {name!r} is no run's name. `alexnet runs {parent or '.'}` lists those that are there.")
    if url.startswith("/") and not parent:
        parent = "/"
    run = Run(open_store(parent or "."), name)
    if run.record() is None:
        raise _missing(run, url, parent or ".")
    return run


def _missing(run: Run, url: str, parent: str) -> JobError:
    """Where else to look: in the place itself, or, where no place was named, in that of `alexnet train`."""
    if any(run.store.list(f"{run.id}/{name}/run.json") for name in run.store.folders(f"{run.id}/")[:MANY]):
        return JobError(Exit.USAGE, f"{url} is no run, but holds some. Expected {url.rstrip('/')}/ID; `alexnet runs {url}` lists them.")
    if parent == "." and Run(open_store("runs"), run.id).record() is not None:
        return JobError(Exit.USAGE, f"{url}: there is no run (no run.json). Did you mean runs/{run.id}?")
    return JobError(Exit.USAGE, f"{url}: there is no run (no run.json). `alexnet runs {parent}` lists those that are there.")


def read_results(url: str) -> Results:
    """Raises JobError: 2 where there is no run or it has not ended, 65 where an object is damaged or missing."""
    run = open_run(url)
    record, summary = run.record(), run.summary()
    assert record is not None
    if summary is None:
        raise JobError(Exit.USAGE, f"{url}: this run has no results yet. {_how_far(run)}")
    logits, labels = predictions_of(run, record, summary)
    plots = {n.removeprefix("plots/").removesuffix(".png"): final_object(run, summary, n) for n in summary["final"] if n.endswith(".png")}
    return Results(
        id=run.id,
        url=url,
        record=record,
        summary=summary,
        lines=lines(MetricsLine, final_object(run, summary, "metrics.jsonl"), f"{url}: metrics.jsonl"),
        logits=logits,
        labels=labels,
        attempts=attempts_of(run),
        checkpoints=[str(name) for name in run.checkpoint_names()],
        resources=[*resources_of(run)],
        plots=plots,
    )


def _how_far(run: Run) -> str:
    """And what there is to do."""
    row = row_of(run.store, run.id)
    if row is None:
        return "It is gone."
    state = "failed" if row.state == "failed" else f"is {row.state}"
    reason = f": {row.reason.rstrip('.')}" if row.reason else ""
    return f"It {state}{reason}. {row.advice or '`alexnet watch` shows how far it is.'}"


def predictions_of(run: Run, record: RunRecord, summary: Summary) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Logits and labels of the test set, as `parse_predictions`."""
    return parse_predictions(final_object(run, summary, "predictions.npz"), record, f"{run.url}: predictions.npz")


def final_object(run: Run, summary: Summary, name: str) -> bytes:
    """One of the objects that the summary lists, verified.  Raises JobError (65)."""
    key, listed = run.key("final", summary["attempt"], name), summary["final"].get(name)
    where = f"{run.store.url}/{key}"
    if listed is None:
        raise JobError(Exit.DATA, f"{where} is not listed in summary.json. Expected what a finished run leaves.")
    try:
        data = run.store.get(key, FINAL_BYTES)
    except NotFound:
        raise JobError(Exit.DATA, f"{where} is missing, though summary.json lists it.") from None
    if (found := sha256_of(data)) != listed["sha256"]:
        raise JobError(Exit.DATA, f"{where} has SHA-256 {found[:12]}…, summary.json says {listed['sha256'][:12]}….")
    return data


def attempts_of(run: Run) -> list[Attempt]:
    """Oldest first.  A damaged object of an attempt is as good as none: no result rests on it."""
    names = filter(ATTEMPT.fullmatch, run.store.folders(run.key("attempts") + "/"))
    return [Attempt(name=n, claim=run.claim_of(n), end=run.read_sound(Ending, "attempts", n, "end.json")) for n in names]
