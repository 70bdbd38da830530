"""The best model of a run with validation images: where its weights are, and which one comes next where they are damaged or gone."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.records import EpochLine
from job.runs.checkpoint import CheckpointName
from job.runs.leftovers import WORK, Leftovers
from job.runs.run import Checkpoint
from job.runs.statefile import MODEL
from job.runs.tensorfile import read_tensors
from job.storage.files import local_errors
from job.training.attempt import Attempt
from job.training.progress import Progress


class BestModel:
    """Of one attempt.  What it wrote itself or found on this disk stays at hand; what is in the store is verified when it is asked for."""

    def __init__(self, attempt: Attempt, architecture: Architecture) -> None:
        self._attempt, self._architecture = attempt, architecture
        self._work = attempt.spool.folder / WORK
        self._at_hand: CheckpointName | None = None

    def keep(self, name: CheckpointName, model: Path) -> Path:
        """Have these weights on the disk once more, as the store may be away when they are wanted."""
        kept = self._work / "best.safetensors"
        with local_errors(kept):
            self._work.mkdir(exist_ok=True)
            kept.unlink(missing_ok=True)
            try:
                os.link(model, kept)
            except OSError:  # a file system without hard links
                shutil.copyfile(model, kept)
        self._at_hand = name
        return kept

    def find(self, progress: Progress, newest: CheckpointName, leftovers: Leftovers | None = None) -> Path | None:
        """The weights of the checkpoint that `progress` calls the best: another one than before where that is damaged or gone.

        None: it is `newest`, or there is none.  `leftovers`: what may lie on this disk.  Raises StoreError."""
        lost, unfit = progress.best_accuracy, set[CheckpointName]()
        model = None
        while (name := CheckpointName.parse(progress.best or "")) and name != newest:
            try:
                model = self._weights(name, progress.epochs, leftovers)
                break
            except JobError as error:
                if error.code is not Exit.DATA:
                    raise
                self._attempt.say(f"checkpoint {name} is left out: {error}")
            unfit.add(name)
            self._attempt.run.damaged.add(name)
            _choose_best(progress, {newest, *self._retained(leftovers)} - unfit)
        if unfit:
            left = f"the best of the checkpoints that are left is {name} ({progress.best_accuracy:.2%})"
            to_come = "no other checkpoint of an epoch's end is left, so the best of the epochs to come will count"
            self._attempt.say(f"the weights that were best on the validation images ({lost:.2%}) are lost; {left if name else to_come}")
        return model

    def _weights(self, name: CheckpointName, epochs: list[EpochLine], leftovers: Leftovers | None) -> Path:
        """Raises JobError (65) where they are damaged or gone, or of an attempt whose steps are not this run's."""
        if name == self._at_hand:
            return self._work / "best.safetensors"
        found = self._fetched(name, leftovers)
        if _line_of(name, epochs) not in found.lines:
            raise JobError(Exit.DATA, "its metrics.jsonl tells of other epochs than the checkpoint that the run goes on from")
        for _ in read_tensors(found.folder / MODEL, self._architecture.parameter_shapes):
            pass  # to the end, before the network gets any of them
        return self.keep(name, found.folder / MODEL) if leftovers and name in leftovers.checkpoints else found.folder / MODEL

    def _fetched(self, name: CheckpointName, leftovers: Leftovers | None) -> Checkpoint:
        if leftovers and name in leftovers.checkpoints:
            return leftovers.verified(name)
        shutil.rmtree(self._work / "best", ignore_errors=True)
        return self._attempt.retried(lambda: self._attempt.run.fetch_checkpoint(name, self._work / "best"))

    def _retained(self, leftovers: Leftovers | None) -> Iterable[CheckpointName]:
        """Checkpoints that will be there when the run ends.  What waits is delivered first, since retention follows each delivery."""
        if not self._attempt.is_delivered():
            return ()
        stored = self._attempt.retried(self._attempt.run.complete_checkpoints)
        return {*stored, *(leftovers.checkpoints if leftovers else ())}


def _choose_best(progress: Progress, names: set[CheckpointName]) -> None:
    """Let `progress` call the best of these the best, or none."""
    lines = {name: line for name in names if (line := _line_of(name, progress.epochs))}
    accuracies = {name: line["validation_accuracy"] for name, line in lines.items() if "validation_accuracy" in line}
    best = max(accuracies, key=lambda name: (accuracies[name], -name.step, name.attempt), default=None)
    if best is None:
        progress.record_best(None, -1.0)
    else:
        progress.record_best(str(best), accuracies[best])


def _line_of(name: CheckpointName, epochs: list[EpochLine]) -> EpochLine | None:
    """Of the epoch after which the checkpoint was made; None: it was made within one."""
    return next((line for line in epochs if line["step"] == name.step), None)
