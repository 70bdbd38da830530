"""One attempt on a run: its claim, what works beside the training, and every way out, with what is stored, left and said.

Nothing is lost: what a store does not take stays in a folder that `alexnet sync` delivers later.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, TypeVar

from job.analysis.previous_attempt import describe_previous_attempt
from job.core.exits import Exit, JobError
from job.core.identity_records import Claim, ContributionRecord
from job.core.records import End, PeakMemory, RunRecord, Status, Summary
from job.core.resource_records import TrainingGauges
from job.runs.contributions import engine_names
from job.runs.heartbeat import Heartbeat
from job.runs.leftovers import WORK, SpoolFolders
from job.runs.run import Run
from job.runs.spool import Spool
from job.runs.taking_over import wait_for_other_job
from job.storage.errors import StoreError
from job.storage.files import encoded, new_file_beside
from job.telemetry.host import peak_memory
from job.telemetry.sampler import Sampler
from job.training.display import Say
from job.training.options import Options
from job.training.progress import Progress
from job.training.stopping import Stopped, StopSignal

T = TypeVar("T")

OVER = (Exit.SUPERSEDED, Exit.DONE)
"""codes after which nothing of this attempt is of any worth"""
LOG_SECONDS = 5.0
"""that the end of the resource log is waited for where nothing else waits"""
PAUSE = 1.0
"""seconds between two tries to put the summary"""


class Ending(NamedTuple):
    """How an attempt ends."""

    code: Exit
    reason: str = ""
    """for end.json; "": none is written"""
    message: str = ""
    """to say last"""
    error: JobError | None = None
    """to raise"""


class Attempt:
    """`with Attempt(…) as attempt:` claims the run, brings what `spool` gets to the store, and leaves an end.json.

    Raises JobError (77) where another attempt was quicker.  On the way out a
    Stopped and a second Ctrl-C are turned into `exit_code`; a JobError goes on, its text completed by what is not stored and where it lies.
    """

    def __init__(
        self,
        run: Run,
        record: RunRecord,
        claim: Claim,
        *,
        progress: Progress,
        options: Options,
        stop: StopSignal,
        say: Say,
    ) -> None:
        self.run, self.claim, self.stop, self.say = run, claim, stop, say
        self.engine = claim["engine"]
        self.exit_code = Exit.DONE
        self.settling = False
        """the last things are being stored, within the grace period after a signal"""
        self._ended = threading.Lock()
        """whoever ends the attempt, the main thread or the watchdog, holds it from then on"""
        self._begun = time.monotonic()
        self._progress, self._flush_timeout = progress, options.flush_timeout
        self._warned = False
        self._summary: Summary | None = None
        """where there is one that waits for its objects"""
        self.record = record
        wait_for_other_job(run, claim, say)
        try:
            with self._counted():
                run.claim(claim)
                if note := describe_previous_attempt(run):
                    say(note)
            folders = SpoolFolders(run, self.record, options.spool)
            self.spool = Spool(run, folders, limit=options.spool_limit, patience=self._flush_timeout, say=say)
        except JobError as error:
            self._end(Ending(error.code, str(error)))
            raise
        self.heartbeat = Heartbeat(run, self.status)
        folder = self.spool.path("attempts", run.attempt, "claim.json").parent
        self.sampler = Sampler(folder, deliver=self.spool.add, say=say, gauges=self._gauges)
        self.sampler.start()

    def __enter__(self) -> Self:
        return self

    def check(self) -> None:
        """Raises what came up beside the training: a newer attempt, a store that refuses."""
        self.heartbeat.check()
        self.spool.check()

    def leave(self) -> NoReturn:
        """After a signal: deliver what waits, as far as the grace period allows, and raise Stopped."""
        self.settling = True
        self.sampler.stop()
        self.spool.flush(self.stop.deadline)
        raise Stopped

    def commit(self, summary: Summary, files: list[Path]) -> None:
        """Deliver the files and all that waits, then put the summary.  A signal shortens the time to what its grace period leaves.

        Raises StoreError (74) where the store does not take all in time, Stopped after a signal where progress is stored at least.
        """
        self.settling = True
        self.spool.add(*files)
        self._summary = summary
        limit, trouble = self._soon(), None
        if self.spool.flush(limit):
            try:
                return self.retried(lambda: self._put_summary(summary), limit)
            except StoreError as error:
                trouble = error
        if self.stop.requested and self.has_stored_progress:
            self._summary = None
            raise Stopped
        grace, timeout = f"the grace period of {self.stop.grace:.0f} s (--grace)", f"{self._flush_timeout:.0f} s (--flush-timeout)"
        within = grace if self.stop.requested else timeout
        trouble = trouble or self.spool.trouble
        reason = f" It said last: {trouble}" if trouble else ""
        raise StoreError(Exit.NOT_STORED, f"The store did not take all results within {within}.{reason}")

    def _put_summary(self, summary: Summary) -> None:
        if not self.run.store.conditional and not self._warned:
            self._warned = True
            self.say(
                f"{self.run.store.url} ignores conditional puts: of two attempts that end at the same moment, the last summary "
                "wins, each being whole"
            )
        self.run.commit(summary)

    def retried(self, action: Callable[[], T], limit: Callable[[], float] | None = None) -> T:
        """Its result.  A store that fails or refuses is asked again, until `limit()` by time.monotonic(); None: as `commit`."""
        end, announced = self._soon(), False
        while True:
            try:
                return action()
            except StoreError as error:
                if time.monotonic() + PAUSE > (limit or end)():
                    raise
                if not announced:
                    announced = True
                    self.say(f"trying again and again, for at most {self._flush_timeout:.0f} s (--flush-timeout). {error}")
                time.sleep(PAUSE)

    def is_delivered(self) -> bool:
        """Wait for what is on its way to the store, as long as `commit` does.  Raises as `Spool.check`."""
        return self.spool.flush(self._soon())

    def _soon(self) -> Callable[[], float]:
        """The end, by time.monotonic(), of the time that the store gets from now on; a signal brings it forward."""
        end = time.monotonic() + self._flush_timeout
        return lambda: min(end, self.stop.deadline())

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A store that took the claim is configured right: what it refuses afterwards may pass, so the Job is to try again."""
        try:
            yield
        except StoreError as error:
            if error.code is Exit.CONFIGURATION and self.run.claimed:
                raise StoreError(Exit.NOT_STORED, str(error), transient=error.transient) from None
            raise

    @property
    def has_stored_progress(self) -> bool:
        return self.spool.stored_step > self._progress.first_step

    def contributions(self) -> list[ContributionRecord]:
        """Which attempts took the steps so far, this one last."""
        first, last = self._progress.first_step + 1, self._progress.step
        return [*self._progress.earlier, {**self.claim, "attempt": self.run.attempt, "first_step": first, "last_step": last}]

    def status(self) -> Status:
        """For status.json and end.json."""
        progress = self._progress
        epochs, intervals = progress.epochs, progress.intervals
        return {
            "run": self.run.id,
            "attempt": self.run.attempt,
            "engine": engine_names(c["engine"] for c in self.contributions()),
            "recipe": str(self.record["recipe"]["name"]),
            "epoch": len(epochs),
            "epochs": progress.workload.epochs,
            "step": progress.step,
            "steps": progress.workload.steps,
            "test_accuracy": epochs[-1]["test_accuracy"] if epochs else None,
            "images_per_second": intervals[-1]["images_per_second"] if intervals else None,
            "loss": intervals[-1]["loss"] if intervals else None,
            "last_step": None if (last := progress.stepped_at) is None else round(self.claim["started"] + last - self._begun, 1),
            "seconds_left": None if (left := progress.seconds_left) is None else round(left, 1),
        }

    def _gauges(self) -> TrainingGauges:
        """For each resource sample."""
        return {"step": self._progress.step, "epoch": len(self._progress.epochs), "spool_bytes": self.spool.waiting_bytes}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.settling = True
        if not self._ended.acquire(blocking=False):
            threading.Event().wait()  # the watchdog is ending the process
        ending = self._finish(error)
        if ending.message:
            self.say(ending.message, event="stopped")
        if ending.error:
            raise ending.error from None
        return isinstance(error, Stopped | KeyboardInterrupt)

    def abandon(self, error: JobError | Stopped) -> Exit | None:
        """Called by the watchdog, from its thread, where the main one hangs: do all that leaving does.  Returns the exit code; None: the
        main thread has begun to leave."""
        if not self._ended.acquire(blocking=False):
            return None
        ending = self._finish(error)
        self.say(f"{ending.error or ending.message}", level="error", event="error", exit_code=ending.code)
        return ending.code

    def _finish(self, error: BaseException | None) -> Ending:
        """Deliver what waits or leave it in a folder, and put end.json."""
        ending = None
        try:
            ending = self._ending(error)
            if ending.code is Exit.DONE:
                with self.spool.leftovers() as leftovers:
                    leftovers.clear(run_finished=True)
        finally:
            self.sampler.stop()
            self.heartbeat.close()
            self.spool.close(leave_checkpoints=ending is None or ending.code is Exit.SUPERSEDED)
        self.exit_code = ending.code
        self._end(ending)
        return ending

    def _ending(self, error: BaseException | None) -> Ending:
        match error:
            case None:
                return Ending(Exit.DONE, "finished")
            case Stopped():
                return self._after_stop(self._settle())
            case JobError():
                failure = self._after_failure(error)
                return Ending(failure.code, "" if failure.code is Exit.DONE else str(failure), error=failure)
            case Exception():
                return Ending(Exit.INTERNAL, f"internal error: {type(error).__name__}", message=self._settle())
            case _:  # an impatient Ctrl-C
                return self._after_stop(self._settle(wait=False), impatient=True)

    def code_after_stop(self) -> Exit:
        """143 only where this attempt has stored progress."""
        if self.stop.number == signal.SIGINT:
            return Exit.INTERRUPTED
        return Exit.TERMINATED if self.has_stored_progress else Exit.NOT_STORED

    def _after_stop(self, undelivered: str, *, impatient: bool = False) -> Ending:
        code = self.code_after_stop()
        reason = f"stopped by {self.stop.name}" + (" before any progress" if code is Exit.NOT_STORED else "")
        if impatient:
            code, reason = Exit.INTERRUPTED, "stopped by a second Ctrl-C"
        stored = f"a checkpoint of step {self.spool.stored_step} is stored" if self.has_stored_progress else "nothing new was stored"
        message = f"{reason}: {stored}. Continue with the same command and --run-id {self.run.id}. {undelivered}"
        return Ending(code, reason, message.removesuffix(". "))

    def _after_failure(self, error: JobError) -> JobError:
        """The error to end with.  Where it is not the store that failed, what waits is delivered first."""
        if error.code in OVER:
            return error
        store_failed = isinstance(error, StoreError)
        if not store_failed and self.spool.missing():
            self.say(f"{error} First the store gets what waits for it, within {self._flush_timeout:.0f} s (--flush-timeout).")
        undelivered = self._settle(wait=not store_failed)
        verdict = self.spool.failure
        if not store_failed and verdict and verdict.code in OVER:
            return verdict
        before, kept = max(self.spool.stored_step, self._progress.first_step), ""
        if error.code is Exit.DIVERGED and before > 0:
            kept = f" The checkpoint of step {before}, from before it, is stored."
        code = Exit.NOT_STORED if store_failed and error.code is Exit.CONFIGURATION else error.code  # as in `_counted`
        return JobError(code, f"{error}{kept} {undelivered}".rstrip())

    def _settle(self, *, wait: bool = True) -> str:
        """End the delivery, after what it takes to deliver all where `wait` is true and time allows; an impatient Ctrl-C ends the wait.

        A sentence that names every object that is missing, and the folder that holds them; "" where none is that is worth a folder."""
        spool = self.spool
        waiting = bool(spool.missing())
        self.sampler.stop()
        if wait:
            end = time.monotonic() + (self._flush_timeout if waiting else LOG_SECONDS)
            with suppress(JobError, KeyboardInterrupt):
                spool.flush(lambda: min(end, self.stop.deadline()))
        spool.halt()
        missing = spool.missing()
        if self._summary is not None:
            missing.append(self.run.key("summary.json"))
        over = spool.failure is not None and spool.failure.code in OVER
        if over or all("/resources-" in key for key in missing):
            return ""
        shutil.rmtree(spool.folder / WORK, ignore_errors=True)
        unwritten = self._leave_records()
        folder = spool.leave_undelivered()
        but = f" ({', '.join(unwritten)} could not be written there)" if unwritten else ""
        return f"Not stored: {', '.join(missing)}. These objects are kept in {folder}{but}{self._how_long_kept(folder)}"

    def _how_long_kept(self, folder: Path | None) -> str:
        """An emptyDir ends with its pod, where nobody can run a command any more."""
        if pod := self.claim["pod"]:
            return (
                f", which is lost with the pod {pod} unless --spool is on a volume that outlives it (k8s-variants/spool-pvc), where the "
                "next pod of this run goes on from them."
            )
        return f", as long as that folder lives; `alexnet sync {folder} {self.run.store.url}` delivers them later."

    def _leave_records(self) -> list[str]:
        """Put the small objects of the run beside those that are not delivered; returns the names of those that could not be written."""
        records: dict[str, Any] = {"run.json": self.record, f"attempts/{self.run.attempt}/claim.json": self.claim}
        if self._summary is not None:
            records["summary.json"] = self._summary
        unwritten = []
        for name, record in records.items():
            try:
                path = self.spool.path(*name.split("/"))
                with new_file_beside(path) as temporary:
                    temporary.write_bytes(encoded(record))
                    temporary.replace(path)
            except (OSError, JobError):
                unwritten.append(name)
        return unwritten

    def _end(self, ending: Ending) -> None:
        """Put end.json where there is something to say, an attempt to say it of, and time for it."""
        if not ending.reason or not self.run.attempt or self.stop.seconds_left() <= 0:
            return
        peak: PeakMemory = {"peak_host_memory_bytes": peak_memory()} if ending.code is Exit.DONE else {}
        end: End = {"exit_code": ending.code, "reason": ending.reason, **self.status(), **peak}
        try:
            self.run.end(end)
        except StoreError as error:  # the first failure is the one to report
            self.say(f"end.json could not be stored: {error}")
