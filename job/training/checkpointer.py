"""Everything about checkpoints: when there is room and time for one, how it is written, which one is the best, how a run comes back."""

import shutil
import time

from job.core.architecture import Architecture
from job.core.identity_records import ContributionRecord
from job.core.recipe import Recipe
from job.core.records import FORMAT, CheckpointState
from job.core.time_ledger import TimeLedger
from job.engines import Network
from job.runs.checkpoint import CheckpointName
from job.runs.contributions import by_older_version
from job.runs.leftovers import WORK, Leftovers
from job.runs.run import Checkpoint
from job.runs.statefile import MODEL, read_state, state_bytes, write_state
from job.runs.tensorfile import read_tensors
from job.storage.files import encoded, local_errors
from job.training.agreement import other_engine
from job.training.attempt import Attempt
from job.training.best import BestModel
from job.training.initial_state import InitialState
from job.training.options import Options
from job.training.progress import Progress, to_jsonl


class Checkpointer:
    """The checkpoints of one attempt.  They go to the store by way of its spool, beside the training."""

    def __init__(
        self,
        attempt: Attempt,
        network: Network,
        recipe: Recipe,
        architecture: Architecture,
        ledger: TimeLedger,
        initial: InitialState,
        *,
        other_engine: bool,
    ) -> None:
        """`other_engine`: whether a checkpoint of another engine may be continued."""
        self._attempt, self._network, self._ledger = attempt, network, ledger
        self._recipe, self._architecture, self._initial, self._other_engine = recipe, architecture, initial, other_engine
        self._spool, self._stop = attempt.spool, attempt.stop
        self._work = attempt.spool.folder / WORK
        self._best = BestModel(attempt, architecture)
        self._size = state_bytes(recipe, architecture)
        self._saved_step = -1
        """of the newest that this attempt has written"""
        self._seconds: float | None = None
        """that writing it took"""
        self._since = time.monotonic()
        """when the last one was written, or the attempt began"""
        self._announced = False
        self.newest: CheckpointName | None = None
        """the newest checkpoint, found or written"""

    def restore(self, progress: Progress) -> None:
        """Go on from the newest checkpoint that verifies, or begin with the initial weights."""
        with self._spool.leftovers() as leftovers:
            found = self._newest(leftovers)
            if found is None:
                self._network.load(self._initial.tensors(self._attempt.record.get("init_from_sha256")), [])
                return
            origin = found.state["engine"]
            if origin != self._attempt.engine and not self._other_engine:
                raise other_engine(self._attempt.run, origin, self._attempt.engine)
            self._network.load(*read_state(found.folder, self._recipe, self._architecture))
            progress.restore(found.state["progress"], found.lines, self._contributions(found))
            self._ledger.resume(found.state.get("ledger", {}))
            self.newest = found.name
            self._best.find(progress, found.name, leftovers)
            self._spool.take_over(leftovers, found.name, progress.best)
        for folder in ("resume", "best"):
            shutil.rmtree(self._work / folder, ignore_errors=True)
        note = "" if origin == self._attempt.engine else f", written by {origin}"
        self._attempt.say(
            f"run {self._attempt.run.id}: continues from step {progress.step} of {progress.workload.steps} (checkpoint {found.name}{note})"
        )

    def _newest(self, leftovers: Leftovers) -> Checkpoint | None:
        """In the store or, where an attempt was killed while that was away, on this disk.  A store that fails is asked again."""
        run, say = self._attempt.run, self._attempt.say
        local = leftovers.newest_checkpoint(say)
        beyond = local.name if local else None
        return self._attempt.retried(lambda: run.newest_checkpoint(self._work / "resume", say, beyond=beyond)) or local

    def is_due(self, step: int, options: Options) -> bool:
        """Is it time for one after this step, beside those at the ends of epochs?  Asks the host's clock and nothing of the device."""
        by_steps = options.checkpoint_steps and step % options.checkpoint_steps == 0
        by_time = options.checkpoint_minutes and time.monotonic() - self._since >= 60 * options.checkpoint_minutes
        return bool(by_steps or by_time)

    def save(self, progress: Progress) -> None:
        """Hand a checkpoint over to the spool, which may have to make room first."""
        with self._ledger.spend("upload wait"):
            self._spool.wait_for_room(self._size, lambda: self._stop.requested)
        with self._ledger.spend("checkpoint stall"):
            self._write(progress)

    def save_in_time(self, progress: Progress) -> None:
        """After a signal: store this very step where the grace period allows it, after what is on its way."""
        self._spool.drop_stale_checkpoints()
        if self._is_unsaved(progress) and self._time_for_another():
            self._write(progress)
            self._spool.drop_stale_checkpoints()

    def save_on_disk(self, progress: Progress) -> None:
        """After a failure of the store: this step goes to the spool, for `alexnet sync`."""
        if self._is_unsaved(progress) and not self._stop.requested:
            self._write(progress)

    def load_best(self, progress: Progress) -> CheckpointName | None:
        """Put the weights on the network that were best on the validation images, of those that are sound; returns their checkpoint.

        None: the network has them, since the newest checkpoint is the best, or there are no validation images."""
        assert self.newest is not None
        model = self._best.find(progress, self.newest)
        if model is None:
            return None
        self._network.load(read_tensors(model, self._architecture.parameter_shapes), ())
        return CheckpointName.parse(progress.best or "")

    def announce_first_upload(self) -> None:
        """Once it is there: how long the first checkpoint took, and whether SIGTERM leaves time enough for one."""
        if self._announced or self._spool.upload_seconds is None:
            return
        self._announced = True
        written, stored = self._seconds or 0.0, self._spool.upload_seconds
        self._attempt.say(f"first checkpoint: {self._size / 1e6:.0f} MB, {written:.1f} s to write, {stored:.1f} s to store")
        if written + stored > self._stop.grace:
            self._attempt.say(
                f"that is longer than the grace period of {self._stop.grace:.0f} s: after SIGTERM the run falls back to its last periodic "
                "checkpoint. Raise terminationGracePeriodSeconds and --grace, or use a faster store."
            )

    def _write(self, progress: Progress) -> None:
        """All state to files of the spool, tensor by tensor."""
        begun = time.monotonic()
        name = CheckpointName(step=progress.step, attempt=self._attempt.run.attempt)
        folder, unfinished = self._spool.path("checkpoints", str(name)), self._work / "unfinished"
        accuracy = progress.validation_accuracy
        best = accuracy is not None and accuracy > progress.best_accuracy
        if best:
            progress.record_best(str(name), accuracy or 0.0)
        state: CheckpointState = {
            "format": FORMAT,
            "progress": progress.state,
            "engine": self._attempt.engine,
            "ledger": self._ledger.state(),
            "contributions": self._attempt.contributions(),
        }
        try:
            with local_errors(folder):
                unfinished.mkdir(parents=True)
                write_state(unfinished, self._recipe, self._architecture, self._network.weights(), self._network.slots())
                (unfinished / "state.json").write_bytes(encoded(state))
                (unfinished / "metrics.jsonl").write_text(to_jsonl(progress.lines))
                if best:
                    self._best.keep(name, unfinished / MODEL)
                unfinished.rename(folder)  # so that whatever kills the process, a folder of this name is whole
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self._since = time.monotonic()
        self._saved_step, self.newest, self._seconds = progress.step, name, self._since - begun
        self._spool.add_checkpoint(folder, progress.step, progress.best)

    def _contributions(self, found: Checkpoint) -> list[ContributionRecord]:
        """Which attempts took the steps of this checkpoint."""
        attempt = found.name.attempt
        return found.state.get("contributions") or by_older_version(found.state, attempt, self._attempt.run.claim_of(attempt))

    def _is_unsaved(self, progress: Progress) -> bool:
        return progress.step > max(progress.first_step, self._saved_step)

    def _time_for_another(self) -> bool:
        """Can a checkpoint be written and stored in what is left of the grace period, after the one that is on its way?"""
        age = self._spool.begun_checkpoint_age()
        if age is None or self._spool.upload_seconds is None or self._seconds is None:
            return True
        return max(self._spool.upload_seconds - age, 0) + self._seconds + self._spool.upload_seconds < self._stop.seconds_left()
