"""Nothing is lost: what a store does not take stays in a folder that `alexnet sync` delivers later."""

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from job.core.exits import JobError
from job.io.run import encoded
from job.io.store import StoreError

if TYPE_CHECKING:
    from job.training import Training


def kept(training: "Training", error: StoreError) -> StoreError:
    """The error to end with: it names every object that is missing, and the folder that holds them all."""
    spool, run = training.spool, training.run
    if training.summary is None and not training.stop() and training.progress.step > max(training.found_step, training.snapshot_step):
        with suppress(JobError):  # the disk is full, say: the first error is the one to tell
            training.read_losses()
            training.snapshot()
    missing = spool.missing()
    if not missing and training.summary is None:
        return error
    objects = {"run.json": training.record, f"attempts/{run.attempt}/claim.json": training.claim, "summary.json": training.summary}
    for name, value in objects.items():
        if value is not None:
            spool.path(*name.split("/")).write_bytes(encoded(value))
    if training.summary:
        missing.append(run.key("summary.json"))
    shutil.rmtree(training.work, ignore_errors=True)
    folder = spool.close(keep=True)
    return StoreError(
        error.code,
        f"{error} Not stored: {', '.join(missing)}. These objects are kept in {folder}, as long as that folder lives; "
        f"`alexnet sync {folder} {run.store.url}` delivers them later.",
    )
