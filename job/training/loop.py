"""The story of a run: come back or begin, train epoch by epoch, evaluate, store, publish.

An engine's network does the arithmetic (`job.engines.Network`), an attempt watches over the way to the store
(`job.training.attempt.Attempt`), and a checkpointer owns the checkpoints.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from job.core import metrics
from job.core.architecture import Architecture
from job.core.exits import JobError
from job.core.recipe import Recipe
from job.core.records import EpochLine, Summary
from job.core.sampling import permutation, plan
from job.core.schedule import learning_rate
from job.core.time_ledger import TimeLedger
from job.data.dataset import Dataset
from job.engines import Engine, Network, SplitName, evaluate
from job.storage.errors import StoreError
from job.training.attempt import Attempt
from job.training.checkpointer import Checkpointer
from job.training.live import LiveEvents
from job.training.options import Options
from job.training.progress import Progress, check_finite, moment
from job.training.waiting import announced
from job.training.watchdog import Pace

QUIET = 10.0
"""seconds without a line in the log that are announced"""
CHANCE_EPOCHS = 2
"""after this many epochs at the loss of a guess, the run is reported as not learning"""


class Training:
    """The loop of one attempt.  `joules` says what its GPUs have used so far, `show(step, steps, loss, images/s, seconds left)` moves a
    progress bar."""

    def __init__(
        self,
        *,
        attempt: Attempt,
        engine: Engine,
        network: Network,
        recipe: Recipe,
        architecture: Architecture,
        data: Dataset,
        options: Options,
        progress: Progress,
        ledger: TimeLedger,
        checkpointer: Checkpointer,
        pace: Pace,
        joules: Callable[[], float | None],
        show: Callable[[int, int, float, float, float], None],
    ) -> None:
        self.attempt, self.engine, self.network = attempt, engine, network
        self.recipe, self.architecture = recipe, architecture
        self.data, self.options, self.progress, self.ledger = data, options, progress, ledger
        self.checkpointer, self.pace, self.show = checkpointer, pace, show
        self.workload, self.stop, self.say = progress.workload, attempt.stop, attempt.say
        self.speed = Speed()
        self.image_size: int | None = None
        """of the steps that this attempt took last"""
        self.energy = EpochEnergy(joules)
        self.live = LiveEvents(attempt.run)
        self.test_logits: NDArray[np.float32] | None = None
        """of the last epoch that this attempt ended"""

    def run(self) -> Summary:
        """Train to the end; returns the summary, once it is stored.  Raises Stopped after storing a checkpoint, JobError for all else."""
        try:
            with self.ledger.spend("start-up"), announced("looking for a checkpoint to continue from", self.say):
                self.checkpointer.restore(self.progress)
            self.stop.defer()
            self.energy.restart()
            while not self.progress.complete:
                self.train_epoch()
                self.finish_epoch()
            with self.pace.off():
                return self.publish()
        except StoreError:
            with suppress(JobError, KeyboardInterrupt):  # the disk is full, say: the first error is the one to report
                self.read_losses()
                self.checkpointer.save_on_disk(self.progress)
            raise

    def train_epoch(self) -> None:
        """The steps that are left of the epoch in progress."""
        progress, options, per_epoch = self.progress, self.options, self.workload.steps_per_epoch
        epoch = len(progress.epochs)
        order = self.workload.train[permutation(options.seed, epoch, len(self.workload.train))]
        self.speed.restart(progress.step)
        while progress.step < (epoch + 1) * per_epoch:
            if progress.image_size != self.image_size:
                self.take_first_step(epoch, order)
            else:
                self.take_step(epoch, order)
            ends_epoch = progress.step % per_epoch == 0
            interval_ends = progress.step % options.log_steps == 0 or ends_epoch
            checkpoint_due = not ends_epoch and self.checkpointer.is_due(progress.step, options)
            stopping = self.stop.requested
            if interval_ends or checkpoint_due or stopping:
                with self.ledger.spend("step"):
                    self.read_losses()
            if interval_ends:
                self.log_interval()
            if stopping:
                self.leave()
            if checkpoint_due:
                self.checkpoint()
            self.check()

    def take_step(self, epoch: int, order: NDArray[np.int64]) -> None:
        """Hand the next step over to the device.  `order`: (training images,) indices in the order of this epoch."""
        progress = self.progress
        within = progress.step - epoch * self.workload.steps_per_epoch
        with self.ledger.spend("data"):
            chosen = plan(self.recipe, self.architecture, self.options.seed, order, epoch=epoch, step=within)
        with self.ledger.spend("step"):
            rate = learning_rate(self.recipe, progress.step, self.workload.steps)
            self.network.step(chosen, rate=rate, number=progress.step + 1)
            progress.advance()
            self.pace.step()

    def take_first_step(self, epoch: int, order: NDArray[np.int64]) -> None:
        """Of this attempt, or at another image size.  Wait for it, so that who looks on learns how long the silence until the next line of
        the log will be."""
        begun, size = time.monotonic(), self.progress.image_size
        if self.recipe.smaller_sizes:
            self.say(f"epoch {epoch + 1}: the training images have {size} pixels from now on")
        self.image_size = size
        self.pace.begin()
        with announced("taking the first step, for which the framework prepares itself", self.say):
            self.take_step(epoch, order)
            with self.ledger.spend("step"):
                self.read_losses()
        seconds = time.monotonic() - begun
        if seconds * self.options.log_steps > QUIET:
            self.say(f"the first step took {seconds:.1f} s; the log has a line after every {self.options.log_steps} steps (--log-steps)")

    def finish_epoch(self) -> None:
        """Evaluate, log, checkpoint, and say if nothing is being learnt."""
        self.test_logits = self.evaluate("test", np.arange(len(self.data.test)))
        line = self.epoch_line(self.test_logits)
        self.progress.end_epoch(line)
        self.live.update(self.progress.lines)
        at = f" at {line['image_size']} pixels" if self.recipe.smaller_sizes else ""
        held_out = f"validation accuracy {line['validation_accuracy']:.2%}, " if "validation_accuracy" in line else ""
        self.say(
            f"epoch {line['epoch']}/{self.recipe.epochs}: training loss {line['train_loss']:.4f}, "
            f"training accuracy {line['train_accuracy']:.2%}, {held_out}"
            f"test accuracy {line['test_accuracy']:.2%} (top-5 {line['test_top5_accuracy']:.2%}), "
            f"{line['images_per_second'] or 0:.0f} images/s{at}",
            event="epoch",
            **{name: value for name, value in line.items() if name not in ("kind", "time")},
        )
        self.warn_of_chance(line)
        self.checkpoint()

    def epoch_line(self, test_logits: NDArray[np.float32]) -> EpochLine:
        """For metrics.jsonl.  Raises JobError (76) where a loss is not finite."""
        progress, workload, labels = self.progress, self.workload, self.data.test.labels
        epoch = len(progress.epochs) + 1
        validation = self.evaluate("train", workload.validation) if len(workload.validation) else None
        line: EpochLine = {
            "kind": "epoch",
            "time": moment(),
            "epoch": epoch,
            "step": progress.step,
            "train_loss": progress.epoch_loss / workload.steps_per_epoch,
            "train_accuracy": progress.epoch_hits / workload.images_per_epoch,
            "test_loss": metrics.cross_entropy(test_logits, labels),
            "test_accuracy": metrics.accuracy(test_logits, labels),
            "test_top5_accuracy": metrics.top5_accuracy(test_logits, labels),
            "learning_rate": learning_rate(self.recipe, progress.step - 1, workload.steps),
            "image_size": progress.image_size,
            "images_per_second": progress.median_speed(epoch),
            "seconds": self.ledger.end_epoch()["seconds"],
        }
        if validation is not None:
            labels = self.data.train.labels[workload.validation]
            line["validation_loss"] = metrics.cross_entropy(validation, labels)
            line["validation_accuracy"] = metrics.accuracy(validation, labels)
        check_finite(line["test_loss"], "test loss", progress.step)
        check_finite(line.get("validation_loss", 0.0), "validation loss", progress.step)
        joules = self.energy.of_epoch()
        if joules is not None and (epoch - 1) * workload.steps_per_epoch >= progress.first_step:  # all of it was seen
            line["energy_joules"], line["train_images"] = joules, workload.images_per_epoch
        return line

    def warn_of_chance(self, line: EpochLine) -> None:
        """Where the loss is that of a guess, and the test accuracy cannot be told from that of always naming the most frequent class."""
        at_chance, labels = math.log(len(self.data.classes)) - 0.01, self.data.test.labels
        due = min(CHANCE_EPOCHS, self.recipe.epochs)
        if line["epoch"] != due or any(row["train_loss"] <= at_chance for row in self.progress.epochs):
            return
        low, _ = metrics.wilson(round(line["test_accuracy"] * len(labels)), len(labels))
        if low <= np.bincount(labels).max() / len(labels):
            self.say(
                f"not learning: after epoch {line['epoch']} the loss is still {line['train_loss']:.3f} and the test accuracy "
                f"{line['test_accuracy']:.1%}, as for a guess. "
                "Look at learning_rate (too high kills the ReLUs), the labels and the initial weights.",
                level="warning",
            )

    def publish(self) -> Summary:
        """Results of the finished run, from the best weights where there are validation images, else from the last ones."""
        from job.training.publish import Outcome, publish  # here, because the first step need not wait for matplotlib

        newest, best = self.checkpointer.newest, self.checkpointer.load_best(self.progress)
        assert newest is not None
        logits = self.test_logits if best is None else None
        if logits is None:
            logits = self.evaluate("test", np.arange(len(self.data.test)))
        resources = self.attempt.sampler.stop()
        outcome = Outcome(
            run=self.attempt.run,
            record=self.attempt.record,
            claim=self.attempt.claim,
            environment=self.engine.environment(),
            nondeterministic=self.engine.nondeterministic,
            contributions=self.attempt.contributions(),
            recipe=self.recipe,
            architecture=self.architecture,
            data=self.data,
            model=best or newest,
            logits=logits,
            lines=self.progress.lines,
            steps=self.progress.step,
            time=self.ledger.totals(),
            wall_seconds=self.ledger.wall_seconds,
            upload_seconds=self.attempt.spool.upload_seconds,
            resources=resources,
            rows=self.attempt.sampler.rows,
            newest=newest,
        )
        folder = self.attempt.spool.path("final", self.attempt.run.attempt, "predictions.npz").parent
        summary = publish(outcome, folder)
        self.attempt.commit(summary, [folder / name for name in summary["final"]])
        self.live.remove()
        return summary

    def evaluate(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(indices), classes) logits.  Leaves with a checkpoint when a signal comes."""
        with self.ledger.spend("evaluation"), announced(f"evaluating {len(indices):,} images", self.say):
            at_once = self.recipe.batch_size * self.network.workers
            logits = evaluate(self.network, split, indices, at_once, self.is_stopping)
        if logits is None:
            self.leave()
        return logits

    def is_stopping(self) -> bool:
        """Asked between two batches of the evaluation."""
        self.pace.sign()
        return self.stop.requested

    def read_losses(self) -> None:
        """Fetch what the device has counted since the last time.  Raises JobError (76) where a loss is not finite."""
        losses, hits = self.network.read()
        self.pace.read()
        self.progress.count(losses.tolist(), hits.tolist())

    def log_interval(self) -> None:
        progress = self.progress
        rate = learning_rate(self.recipe, progress.step - 1, self.workload.steps)
        speed = self.speed.since(progress.step) * self.recipe.batch_size
        line = progress.end_interval(learning_rate=rate, images_per_second=speed)
        self.live.update(progress.lines)
        self.show(progress.step, self.workload.steps, line["loss"], speed, progress.seconds_left or 0.0)

    def checkpoint(self) -> None:
        self.check()
        with self.pace.off():
            self.checkpointer.save(self.progress)
        if self.stop.requested:
            self.leave()

    def leave(self) -> NoReturn:
        """After a signal: save what there is time for, and raise Stopped."""
        self.checkpointer.save_in_time(self.progress)
        self.attempt.leave()

    def check(self) -> None:
        """Raises what came up beside the training: a newer attempt, a store that refuses."""
        self.attempt.check()
        self.checkpointer.announce_first_upload()


class Speed:
    """Steps per second between two readings."""

    def __init__(self) -> None:
        self._step, self._time = 0, time.perf_counter()

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def since(self, step: int) -> float:
        """Steps per second since the last reading."""
        seconds, steps = time.perf_counter() - self._time, step - self._step
        self.restart(step)
        return steps / max(seconds, 1e-9)


class EpochEnergy:
    """Joules of all GPUs between two readings, where they have counters."""

    def __init__(self, joules: Callable[[], float | None]) -> None:
        self._joules = joules
        self._before: float | None = None

    def restart(self) -> None:
        self._before = self._joules()

    def of_epoch(self) -> float | None:
        """Since the last reading."""
        before = self._before
        self.restart()
        return None if before is None or self._before is None else round(self._before - before, 1)
