"""Nothing is lost: what a store does not take stays in a folder that `alexnet sync` delivers later."""

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from job.core.exits import Exit, JobError
from job.storage.errors import StoreError
from job.storage.files import encoded, new_file_beside

if TYPE_CHECKING:
    from job.training.loop import Training

OVER = (Exit.SUPERSEDED, Exit.DONE)
"""codes after which nothing of this attempt is of any worth"""
LOG_SECONDS = 5.0
"""that the end of the resource log is waited for where nothing else waits"""


def kept(training: "Training", error: JobError) -> JobError:
    """The error to end with.  Where the store failed, the state in memory is kept as well; else what waits is delivered first."""
    if error.code in OVER:
        return error
    failed = isinstance(error, StoreError)
    unstored = training.progress.step > max(training.found_step, training.snapshot_step)
    if failed and unstored and training.summary is None and not training.stop():
        with suppress(JobError, KeyboardInterrupt):  # the disk is full, say: the first error is the one to tell
            training.read_losses()
            training.snapshot()
    if not failed and training.spool.missing():
        training.say(f"{error} First the store gets what waits for it, within {training.options.flush_timeout:.0f} s (--flush-timeout).")
    sentence = keep(training, wait=not failed)
    verdict = training.spool.failure
    if not failed and verdict and verdict.code in OVER:
        return verdict
    return JobError(error.code, f"{error} {sentence}".rstrip())


def keep(training: "Training", *, wait: bool = True) -> str:
    """End the delivery, after what it takes to deliver all where `wait` is true and time allows; an impatient Ctrl-C ends the wait.

    A sentence that names every object that is missing, and the folder that holds them all; "" where none is that is worth a folder."""
    spool, run = training.spool, training.run
    waiting = bool(spool.missing())
    training.sampler.stop()
    if wait:
        end = time.monotonic() + (training.options.flush_timeout if waiting else LOG_SECONDS)
        with suppress(JobError, KeyboardInterrupt):
            spool.flush(lambda: min(end, training.stop.deadline()))
    spool.halt()
    missing = spool.missing()
    if training.summary is not None:
        missing.append(run.key("summary.json"))
    over = spool.failure is not None and spool.failure.code in OVER
    if over or all("/resources-" in key for key in missing):
        return ""
    shutil.rmtree(training.work, ignore_errors=True)
    objects = {"run.json": training.record, f"attempts/{run.attempt}/claim.json": training.claim, "summary.json": training.summary}
    unwritten = []
    for name, value in objects.items():
        if value is None:
            continue
        try:
            path = spool.path(*name.split("/"))
            with new_file_beside(path) as temporary:
                temporary.write_bytes(encoded(value))
                temporary.replace(path)
        except (OSError, JobError):
            unwritten.append(name)
    folder = spool.leave_undelivered()
    but = f" ({', '.join(unwritten)} could not be written there)" if unwritten else ""
    return (
        f"Not stored: {', '.join(missing)}. These objects are kept in {folder}{but}, as long as that folder lives; "
        f"`alexnet sync {folder} {run.store.url}` delivers them later."
    )
