"""The story of a run: open, claim, resume, train epoch by epoch, store, finish.

Neutral in the framework: an engine does the arithmetic (`job.engines.Engine`), a run in a store keeps the results (`job.runs.run.Run`),
and a spool brings them there beside the training (`job.runs.spool.Spool`).
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from job.analysis.previous_attempt import predecessor
from job.core import metrics
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.records import CheckpointState, Claim, DataFacts, EpochLine, RunRecord, Status, Summary
from job.core.resource_records import TrainingGauges
from job.core.sampling import permutation, plan, steps_per_epoch, validation_split
from job.core.schedule import learning_rate, rate_factors
from job.core.time_ledger import Ledger
from job.data.dataset import Dataset
from job.engines import Engine, evaluate
from job.runs.heartbeat import Watch
from job.runs.run import Run
from job.runs.spool import Spool
from job.storage.files import encoded, local_errors
from job.telemetry.sampler import Sampler
from job.training.attempt import keep, kept
from job.training.checkpointer import initial_state, load_state, state_bytes, write_state
from job.training.progress import Options, Progress, jsonl
from job.training.publish import finish
from job.training.stopping import Stopped, StopSignal

CHANCE_EPOCHS = 2
"""after this many epochs at the loss of a guess, the run is reported as not learning"""


class Training:
    """One attempt on one run.  `say` prints a line, `show(step, total, loss, images/s)` moves a progress bar."""

    def __init__(
        self,
        *,
        engine: Engine,
        recipe: Recipe,
        data: Dataset,
        run: Run,
        options: Options,
        init_from: Path | None,
        stop: StopSignal,
        say: Callable[[str], None],
        show: Callable[[int, int, float, float], None],
    ) -> None:
        self.engine, self.data, self.run, self.options = engine, data, run, options
        self.stop, self.say, self.show = stop, say, show
        self.recipe = recipe.with_values({"precision": self._precision(recipe)})
        self.architecture = self.recipe.architecture(len(data.classes))
        self.init_from = init_from
        labels = data.train.labels
        if not self.recipe.validation < len(labels):
            raise JobError(Exit.USAGE, f"validation = {self.recipe.validation}: expected fewer than the {len(labels)} training images.")
        self.chosen, self.held_out = validation_split(options.seed, labels, self.recipe.validation)
        self.per_epoch = steps_per_epoch(len(self.chosen), self.recipe.batch_size)
        if not self.per_epoch:
            raise JobError(
                Exit.USAGE,
                f"batch_size = {self.recipe.batch_size}: there are only {len(self.chosen)} training images. Choose a smaller batch.",
            )
        self.total = self.per_epoch * self.recipe.epochs
        self.progress = Progress()
        self.ledger = Ledger(before=time.time() - psutil.Process().create_time())
        self.found_step = 0
        self.snapshot_step = -1
        self.snapshot_seconds: float | None = None
        self.told_time = False
        self.validation_accuracy: float | None = None
        """of the epoch that has just ended, until a checkpoint holds it"""
        self.newest = ""
        """name of the newest checkpoint, found or made"""
        self.test_logits: NDArray[np.float32] | None = None
        """of the last epoch that this attempt ended"""
        self.summary: Summary | None = None
        self.record: RunRecord = {
            "format": 1,
            "threads": options.threads,
            "recipe": self.recipe.as_dict(),
            "seed": options.seed,
            "data": self._data_facts(),
        }

    def __call__(self) -> Summary:
        """Train to the end; returns the summary.  Raises Stopped after storing a checkpoint, JobError for all else."""
        with self.ledger.spend("start-up"):
            self.open()
        self.spool = Spool(self.run, self.options.spool, limit=self.options.spool_limit, say=self.say)
        self.watch = Watch(self.run, self.status)
        self.work = self.spool.folder / ".tmp-work"
        attempt = self.spool.path("attempts", self.run.attempt, "claim.json").parent
        self.sampler = Sampler(attempt, deliver=self.spool.add, say=self.say, gauges=self.gauges)
        self.sampler.start()
        try:
            with self.ledger.spend("start-up"):
                self.resume()
            self.stop.gently()
            self.energy_before = self.sampler.energy_joules
            self.first_whole_epoch = -(-self.progress.step // self.per_epoch)
            while self.progress.step < self.total or len(self.progress.epochs) < self.recipe.epochs:
                self.train_epoch()
                self.finish_epoch()
            self.summary = finish(self)
            return self.summary
        except Stopped:
            raise Stopped(keep(self)) from None
        except JobError as error:
            raise kept(self, error) from None
        except BaseException as error:
            if sentence := keep(self, wait=isinstance(error, Exception)):
                self.say(sentence)
            raise
        finally:
            self.sampler.stop()
            self.watch.close()
            self.spool.close()

    def open(self) -> None:
        """Compare with what is stored under this id, claim it, and put network and images on the device."""
        self.record = self.run.begin(self.record)
        self.claim: Claim = {
            **self.engine.environment(),
            "host": os.uname().nodename,
            "started": self.run.store.now(),
            "image": self.options.image,
        }
        self.run.claim(self.claim)
        if note := predecessor(self.run):
            self.say(note)
        self.engine.prepare(self.recipe, self.architecture, rate_factors(self.recipe, self.architecture))
        self.engine.place("train", self.data.train.images, self.data.train.labels)
        self.engine.place("test", self.data.test.images, self.data.test.labels)

    def resume(self) -> None:
        """Load the newest checkpoint that verifies, or the initial weights."""
        checkpoint = self.run.newest_checkpoint(self.work / "resume", self.say)
        if checkpoint is None:
            self.engine.load(initial_state(self.recipe, self.architecture, self.options.seed, self.init_from), [])
            return
        load_state(checkpoint.folder, self.engine, self.recipe, self.architecture)
        lines = (checkpoint.folder / "metrics.jsonl").read_text().splitlines()
        self.progress = Progress(**checkpoint.state["progress"], lines=[json.loads(line) for line in lines])
        self.ledger.resume(checkpoint.state.get("ledger", {}))
        self.found_step, self.newest = self.progress.step, checkpoint.name
        shutil.rmtree(checkpoint.folder)
        origin = checkpoint.state["engine"]
        note = "" if origin == self.engine.name else f", written by {origin}"
        self.say(f"run {self.run.id}: continues from step {self.progress.step} of {self.total} (checkpoint {checkpoint.name}{note})")

    def train_epoch(self) -> None:
        """The steps that are left of the epoch in progress."""
        progress, recipe = self.progress, self.recipe
        epoch = min(progress.step // self.per_epoch, recipe.epochs - 1)
        order = self.chosen[permutation(self.options.seed, epoch, len(self.chosen))]
        self.clock, self.clock_step = time.perf_counter(), progress.step
        while progress.step < (epoch + 1) * self.per_epoch and len(progress.epochs) == epoch:
            number = progress.step + 1
            boundary = number % self.options.log_steps == 0 or number % self.per_epoch == 0
            due = self.options.checkpoint_steps and number % self.options.checkpoint_steps == 0 and number % self.per_epoch
            with self.ledger.spend("data"):
                chosen = plan(recipe, self.architecture, self.options.seed, order, epoch=epoch, step=progress.step % self.per_epoch)
            with self.ledger.spend("step"):
                self.engine.step(chosen, rate=learning_rate(recipe, progress.step, self.total), number=number)
                progress.step = number
                stopping = self.stop()
                if boundary or due or stopping:
                    self.read_losses()
            if boundary:
                self.log_interval(epoch)
            if stopping:
                self.save_and_leave()
            if due:
                self.checkpoint()
            self.check()

    def check(self) -> None:
        """Raises what came up beside the training: a newer attempt, a store that refuses."""
        self.watch.check()
        self.spool.check()
        if self.spool.upload_seconds is not None and not self.told_time:
            self.tell_time()

    def tell_time(self) -> None:
        """How long the first checkpoint took, and whether SIGTERM leaves time enough for one."""
        self.told_time = True
        written, stored = self.snapshot_seconds or 0.0, self.spool.upload_seconds or 0.0
        self.say(f"first checkpoint: {self.checkpoint_bytes / 1e6:.0f} MB, {written:.1f} s to write, {stored:.1f} s to store")
        if written + stored > self.stop.grace:
            self.say(
                f"that is longer than the grace period of {self.stop.grace:.0f} s: after SIGTERM the run falls back to its last periodic "
                "checkpoint. Raise terminationGracePeriodSeconds and --grace, or use a faster store."
            )

    def read_losses(self) -> None:
        """Fetch what the device has counted since the last read.  Raises JobError (76) where a loss is not finite."""
        losses, hits = self.engine.read()
        first = self.progress.step - len(losses) + 1
        for step, loss in enumerate(losses, first):
            self.check_finite(loss, "loss", step)
        self.progress.add(losses.tolist(), hits.tolist())

    def check_finite(self, loss: float, name: str, step: int) -> None:
        """Raises JobError (76)."""
        if not math.isfinite(loss):
            raise JobError(
                Exit.DIVERGED,
                f"step {step}: the {name} is {loss}, so the training has diverged. The last checkpoint before it is kept. "
                "Lower learning_rate, lengthen warmup, or set clip_norm.",
            )

    def log_interval(self, epoch: int) -> None:
        progress, batch = self.progress, self.recipe.batch_size
        now = time.perf_counter()
        speed = (progress.step - self.clock_step) * batch / max(now - self.clock, 1e-9)
        self.clock, self.clock_step = now, progress.step
        rate = learning_rate(self.recipe, progress.step - 1, self.total)
        loss = progress.end_interval(epoch + 1, batch, learning_rate=rate, images_per_second=round(speed, 1))
        self.show(progress.step, self.total, loss, speed)

    def finish_epoch(self) -> None:
        """Evaluate, log, checkpoint, and say if nothing is being learnt."""
        progress = self.progress
        epoch = len(progress.epochs)
        logits = self.test_logits = self.evaluate("test", np.arange(len(self.data.test)))
        labels = self.data.test.labels
        images = self.per_epoch * self.recipe.batch_size
        line: EpochLine = {
            "kind": "epoch",
            "epoch": epoch + 1,
            "step": progress.step,
            "train_loss": progress.epoch_loss / self.per_epoch,
            "train_accuracy": progress.epoch_hits / images,
            "test_loss": metrics.cross_entropy(logits, labels),
            "test_accuracy": metrics.accuracy(logits, labels),
            "learning_rate": learning_rate(self.recipe, progress.step - 1, self.total),
            "images_per_second": progress.median_speed(epoch + 1),
            "seconds": {},
        }
        if len(self.held_out):
            held_out = self.evaluate("train", self.held_out)
            line["validation_loss"] = metrics.cross_entropy(held_out, self.data.train.labels[self.held_out])
            line["validation_accuracy"] = metrics.accuracy(held_out, self.data.train.labels[self.held_out])
        self.check_finite(line["test_loss"], "test loss", progress.step)
        self.check_finite(line.get("validation_loss", 0.0), "validation loss", progress.step)
        line["seconds"] = self.ledger.end_epoch()["seconds"]
        if (joules := self.energy_of_epoch()) is not None:
            line["energy_joules"], line["train_images"] = joules, images
        progress.lines.append(line)
        progress.epoch_loss, progress.epoch_hits = 0.0, 0
        self.say(
            f"epoch {epoch + 1}/{self.recipe.epochs}: training loss {line['train_loss']:.4f}, "
            f"training accuracy {line['train_accuracy']:.2%}, "
            f"test accuracy {line['test_accuracy']:.2%}, {line['images_per_second'] or 0:.0f} images/s"
        )
        at_chance = math.log(len(self.data.classes)) - 0.01
        if epoch + 1 == min(CHANCE_EPOCHS, self.recipe.epochs) and all(row["train_loss"] > at_chance for row in progress.epochs):
            self.say(
                f"not learning: after {epoch + 1} epochs the loss is still {line['train_loss']:.3f}, as for a guess. "
                "Look at learning_rate (too high kills the ReLUs), the labels and the initial weights."
            )
        self.validation_accuracy = line.get("validation_accuracy")
        self.checkpoint()

    def energy_of_epoch(self) -> float | None:
        """Since the last epoch's end, where a counter exists; of an epoch that was resumed in its middle nothing is said."""
        before, self.energy_before = self.energy_before, self.sampler.energy_joules
        if before is None or self.energy_before is None or len(self.progress.epochs) < self.first_whole_epoch:
            return None
        return round(self.energy_before - before, 1)

    def checkpoint(self) -> None:
        """Hand a checkpoint over to the spool, which may have to make room first."""
        self.check()
        with self.ledger.spend("upload wait"):
            self.spool.wait_for_room(self.checkpoint_bytes, self.stop)
        with self.ledger.spend("checkpoint stall"):
            self.snapshot()
        if self.stop():
            self.save_and_leave()

    def snapshot(self) -> None:
        """Write all state to files of the spool, tensor by tensor."""
        progress, accuracy, begun = self.progress, self.validation_accuracy, time.monotonic()
        name = f"step-{progress.step:08d}-{self.run.attempt}"
        folder = self.spool.path("checkpoints", name, "state.json").parent
        best = accuracy is not None and accuracy > progress.best_accuracy
        if best:
            progress.best, progress.best_accuracy = name, accuracy or 0.0
        state: CheckpointState = {"progress": progress.state, "engine": self.engine.name, "ledger": self.ledger.state()}
        try:
            with local_errors(folder):
                write_state(folder, self.engine, self.recipe, self.architecture)
                (folder / "state.json").write_bytes(encoded(state))
                (folder / "metrics.jsonl").write_text(jsonl(progress.lines))
                if best:  # kept here as well, as the store may be away when it is wanted
                    self.work.mkdir(exist_ok=True)
                    (self.work / "best.safetensors").unlink(missing_ok=True)
                    try:
                        os.link(folder / "model.safetensors", self.work / "best.safetensors")
                    except OSError:  # a file system without hard links
                        shutil.copyfile(folder / "model.safetensors", self.work / "best.safetensors")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # half a checkpoint is none
            raise
        self.validation_accuracy = None
        self.snapshot_step, self.newest, self.snapshot_seconds = progress.step, name, time.monotonic() - begun
        self.spool.add_checkpoint(folder, progress.step, progress.best)

    @property
    def checkpoint_bytes(self) -> int:
        return state_bytes(self.recipe, self.architecture)

    def save_and_leave(self) -> None:
        """Store this very step where the grace period allows it, after what is on its way; then leave."""
        self.spool.drop_stale_checkpoints()
        if self.progress.step > max(self.found_step, self.snapshot_step) and self.time_for_another():
            self.snapshot()
            self.spool.drop_stale_checkpoints()
        self.sampler.stop()
        self.spool.flush(self.stop.deadline)
        raise Stopped

    def time_for_another(self) -> bool:
        """Can a checkpoint be written and stored in what is left of the grace period, after the one that is on its way?"""
        age = self.spool.begun_checkpoint_age()
        if age is None or self.spool.upload_seconds is None or self.snapshot_seconds is None:
            return True
        return max(self.spool.upload_seconds - age, 0) + self.snapshot_seconds + self.spool.upload_seconds < self.stop.left()

    @property
    def stored_step(self) -> int:
        """Of the newest checkpoint that this attempt has in the store; -1: none."""
        spool: Spool | None = vars(self).get("spool")
        return spool.stored_step if spool else -1

    @property
    def has_stored_progress(self) -> bool:
        return self.stored_step > self.found_step

    def status(self) -> Status:
        """For status.json and end.json."""
        progress = self.progress
        return {
            "run": self.run.id,
            "attempt": self.run.attempt,
            "engine": self.engine.name,
            "recipe": self.recipe.name,
            "epoch": len(progress.epochs),
            "epochs": self.recipe.epochs,
            "step": progress.step,
            "steps": self.total,
            "test_accuracy": progress.epochs[-1]["test_accuracy"] if progress.epochs else None,
            "images_per_second": progress.intervals[-1]["images_per_second"] if progress.intervals else None,
        }

    def gauges(self) -> TrainingGauges:
        """For each resource sample."""
        return {"step": self.progress.step, "epoch": len(self.progress.epochs), "spool_bytes": self.spool.waiting_bytes}

    def evaluate(self, split: Any, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(indices), classes) logits.  Leaves with a checkpoint when a signal comes."""
        with self.ledger.spend("evaluation"):
            logits = evaluate(self.engine, split, indices, self.recipe.batch_size, self.stop)
        if logits is None:
            self.save_and_leave()
        assert logits is not None
        return logits

    def _precision(self, recipe: Recipe) -> str:
        """`auto` continues a stored run as it began."""
        stored = self.run.read("run.json") if recipe.precision == "auto" else None
        return str(stored["recipe"]["precision"]) if stored else self.engine.resolve(recipe.precision)

    def _data_facts(self) -> DataFacts:
        return {
            "name": self.data.name,
            "fingerprint": self.data.fingerprint,
            "classes": list(self.data.classes),
            "train_images": len(self.data.train),
            "test_images": len(self.data.test),
        }
