"""The story of a run: open, claim, resume, train epoch by epoch, store, finish.

Neutral in the framework: an engine does the arithmetic (`job.engines.Engine`), a store keeps the results (`job.io.run.Run`).
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core import metrics
from job.core.exits import Exit, JobError
from job.core.initial import initial_weights
from job.core.recipe import Recipe, differences
from job.core.sampling import permutation, plan, steps_per_epoch, validation_split
from job.core.schedule import learning_rate
from job.engines import Engine, evaluate
from job.io.checkpoint import read_tensors, write_tensors
from job.io.dataset import Dataset
from job.io.run import Checkpoint, Run, encoded

CHANCE_EPOCHS = 2
"""after this many epochs at the loss of a guess, the run is reported as not learning"""


class Stopped(Exception):  # noqa: N818  an answer rather than an error
    """A signal asked the run to stop."""


@dataclass
class Progress:
    """Everything that a checkpoint holds beside tensors: where the run stands, and what it has seen."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    """of the logging interval in progress"""
    hits: list[int] = field(default_factory=list)
    epoch_loss: float = 0.0
    """sum over the steps of the epoch in progress"""
    epoch_hits: int = 0
    best: str | None = None
    """checkpoint that is best on the validation set"""
    best_accuracy: float = -1.0
    lines: list[dict[str, Any]] = field(default_factory=list)
    """of metrics.jsonl"""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == "epoch"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is not part of the recipe, since it does not change the numbers."""

    seed: int = 0
    threads: int = 1
    """of the CPU; they change the order of sums, so a run keeps those that it began with"""
    log_steps: int = 50
    checkpoint_steps: int = 0
    """0: at the end of each epoch only"""
    image: str = ""


class Training:
    """One attempt on one run.  `stop()` tells whether a signal came, `say` prints a line, `show` moves a progress bar."""

    def __init__(
        self,
        *,
        engine: Engine,
        recipe: Recipe,
        data: Dataset,
        run: Run,
        options: Options,
        init_from: Path | None,
        stop: Callable[[], bool],
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
        self.found_step = 0
        self.stored_step = -1
        self.work = Path(tempfile.mkdtemp(prefix="alexnet-"))

    def __call__(self) -> dict[str, Any]:
        """Train to the end; returns the summary.  Raises Stopped after storing a checkpoint, JobError for all else."""
        try:
            self.open()
            self.resume()
            while self.progress.step < self.total or len(self.progress.epochs) < self.recipe.epochs:
                self.train_epoch()
                self.finish_epoch()
            return self.finish()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def open(self) -> None:
        """Compare with what is stored under this id, claim it, and put network and images on the device."""
        record: dict[str, Any] = {
            "format": 1,
            "threads": self.options.threads,
            "recipe": self.recipe.as_dict(),
            "seed": self.options.seed,
            "data": self._data_facts(),
        }
        if not self.run.store.put_if_absent(self.run.key("run.json"), encoded(record)):
            stored = self.run.read("run.json")
            different = differences(
                {**record["recipe"], "seed": record["seed"], "data fingerprint": record["data"]["fingerprint"]},
                {**stored["recipe"], "seed": stored["seed"], "data fingerprint": stored["data"]["fingerprint"]},
            )
            if different:
                raise JobError(
                    Exit.CONFIGURATION,
                    f"run {self.run.id} is already there with another configuration ({'; '.join(different)}). "
                    "Give the stored values to continue it, or another --run-id to begin a new run.",
                )
        self.run.claim({**self.engine.environment(), "started": self.run.store.now(), "image": self.options.image})
        reused = self.recipe.pretrained_rate if self.recipe.pretrained else 1.0
        head = self.architecture.head.name + "."
        self.engine.prepare(
            self.recipe,
            self.architecture,
            {n: reused for n in self.architecture.parameter_shapes if not n.startswith(head) and reused != 1},
        )
        self.engine.place("train", self.data.train.images, self.data.train.labels)
        self.engine.place("test", self.data.test.images, self.data.test.labels)

    def resume(self) -> None:
        """Load the newest checkpoint that verifies, or the initial weights."""
        checkpoint = self.run.newest_checkpoint(self.work / "resume", self.say)
        if checkpoint is None:
            self.engine.load(self._initial(), [])
            return
        self._load(checkpoint, slots=True)
        lines = (checkpoint.folder / "metrics.jsonl").read_text().splitlines()
        self.progress = Progress(**checkpoint.state["progress"], lines=[json.loads(line) for line in lines])
        self.found_step = self.progress.step
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
            self.engine.step(
                plan(recipe, self.architecture, self.options.seed, order, epoch=epoch, step=progress.step % self.per_epoch),
                rate=learning_rate(recipe, progress.step, self.total),
                number=number,
            )
            progress.step = number
            boundary = number % self.options.log_steps == 0 or number % self.per_epoch == 0
            due = self.options.checkpoint_steps and number % self.options.checkpoint_steps == 0 and number % self.per_epoch
            stopping = self.stop()
            if boundary or due or stopping:
                self.read_losses()
            if boundary:
                self.log_interval(epoch)
            if stopping:
                self.save_and_leave()
            if due:
                self.checkpoint()

    def read_losses(self) -> None:
        """Fetch what the device has counted since the last read.  Raises JobError (76) where a loss is not finite."""
        losses, hits = self.engine.read()
        first = self.progress.step - len(losses) + 1
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                raise JobError(
                    Exit.DIVERGED,
                    f"step {step}: the loss is {loss}, so the training has diverged. The last checkpoint before it is kept. "
                    "Lower learning_rate, lengthen warmup, or set clip_norm.",
                )
        self.progress.losses += losses.tolist()
        self.progress.hits += hits.tolist()
        for loss in losses.tolist():  # one by one: the sum must not depend on when it was read
            self.progress.epoch_loss += loss
        self.progress.epoch_hits += int(hits.sum())

    def log_interval(self, epoch: int) -> None:
        progress, batch = self.progress, self.recipe.batch_size
        now = time.perf_counter()
        speed = (progress.step - self.clock_step) * batch / max(now - self.clock, 1e-9)
        self.clock, self.clock_step = now, progress.step
        loss = sum(progress.losses) / len(progress.losses)
        progress.lines.append(
            {
                "kind": "interval",
                "step": progress.step,
                "epoch": epoch + 1,
                "loss": loss,
                "last_loss": progress.losses[-1],
                "accuracy": sum(progress.hits) / (len(progress.hits) * batch),
                "learning_rate": learning_rate(self.recipe, progress.step - 1, self.total),
                "images_per_second": round(speed, 1),
            }
        )
        progress.losses, progress.hits = [], []
        self.show(progress.step, self.total, loss, speed)

    def finish_epoch(self) -> None:
        """Evaluate, log, checkpoint, and say if nothing is being learnt."""
        progress = self.progress
        epoch = len(progress.epochs)
        logits = self._evaluate("test", np.arange(len(self.data.test)))
        labels = self.data.test.labels
        images = self.per_epoch * self.recipe.batch_size
        speeds = [line["images_per_second"] for line in progress.lines if line["kind"] == "interval" and line["epoch"] == epoch + 1]
        line: dict[str, Any] = {
            "kind": "epoch",
            "epoch": epoch + 1,
            "step": progress.step,
            "train_loss": progress.epoch_loss / self.per_epoch,
            "train_accuracy": progress.epoch_hits / images,
            "test_loss": metrics.cross_entropy(logits, labels),
            "test_accuracy": metrics.accuracy(logits, labels),
            "learning_rate": learning_rate(self.recipe, progress.step - 1, self.total),
            "images_per_second": float(np.median(speeds)) if speeds else None,
        }
        if len(self.held_out):
            held_out = self._evaluate("train", self.held_out)
            line["validation_loss"] = metrics.cross_entropy(held_out, self.data.train.labels[self.held_out])
            line["validation_accuracy"] = metrics.accuracy(held_out, self.data.train.labels[self.held_out])
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
        self.checkpoint(accuracy=line.get("validation_accuracy"))

    def checkpoint(self, accuracy: float | None = None) -> None:
        """Write all state to local files, then into the store."""
        progress = self.progress
        name = f"step-{progress.step:08d}-{self.run.attempt}"
        if accuracy is not None and accuracy > progress.best_accuracy:
            progress.best, progress.best_accuracy = name, accuracy
        folder = self.work / name
        folder.mkdir()
        shapes = self.architecture.parameter_shapes
        dtype = "float64" if self.recipe.precision == "fp64" else "float32"
        write_tensors(folder / "model.safetensors", shapes, dtype, self.engine.weights())
        slots = {f"{slot}/{n}": shape for slot in self.recipe.slots for n, shape in shapes.items()}
        write_tensors(folder / "optimizer.safetensors", slots, dtype, self.engine.slots())
        state = {k: v for k, v in vars(progress).items() if k != "lines"}
        (folder / "state.json").write_bytes(encoded({"progress": state, "engine": self.engine.name}))
        (folder / "metrics.jsonl").write_text(jsonl(progress.lines))
        self.run.publish_checkpoint(progress.step, folder)
        self.stored_step = progress.step
        self.run.prune(progress.best)

    def save_and_leave(self) -> None:
        if self.progress.step > max(self.found_step, self.stored_step):
            self.checkpoint()
        raise Stopped

    @property
    def has_stored_progress(self) -> bool:
        return self.stored_step > self.found_step

    def finish(self) -> dict[str, Any]:
        """Predictions, figures, event file, and the summary that commits the run."""
        from job.io.events import write_events
        from job.io.plots import draw_all

        progress, test, classes = self.progress, self.data.test, self.data.classes
        model = next(n for n in self.run.checkpoint_names() if n.startswith(f"step-{progress.step:08d}-"))
        if progress.best:
            model = progress.best
            self._load(self.run.fetch_checkpoint(model, self.work / "best"), slots=False)
        logits = self._evaluate("test", np.arange(len(test)))
        final = self.work / "final"
        final.mkdir()
        np.savez_compressed(final / "predictions.npz", logits=logits, labels=test.labels, predictions=logits.argmax(1).astype(np.uint8))
        (final / "metrics.jsonl").write_text(jsonl(progress.lines))
        write_events(final / "tensorboard", progress.lines)
        draw_all(
            final / "plots", lines=progress.lines, labels=test.labels, logits=logits, images=test.images, classes=classes, title=self.run.id
        )
        hits = int((logits.argmax(1) == test.labels).sum())
        low, high = metrics.wilson(hits, len(test))
        summary = {
            "format": 1,
            "run": self.run.id,
            **self.engine.environment(),
            "recipe": self.recipe.name,
            "precision": self.recipe.precision,
            "seed": self.options.seed,
            "data": self._data_facts(),
            "epochs": len(progress.epochs),
            "steps": progress.step,
            "model": f"checkpoints/{model}/model.safetensors",
            "train_accuracy": progress.epochs[-1]["train_accuracy"],
            "test_accuracy": hits / len(test),
            "test_accuracy_interval_95": [low, high],
            "test_images": len(test),
            "test_loss": metrics.cross_entropy(logits, test.labels),
            "images_per_second": float(np.median([x["images_per_second"] for x in progress.lines if x["kind"] == "interval"])),
            "peak_host_memory_bytes": peak_memory(),
        }
        if self.recipe.truncated_test:
            kept = len(test) // self.recipe.batch_size * self.recipe.batch_size
            summary["truncated_test"] = {
                "images": kept,
                "test_accuracy": metrics.accuracy(logits[:kept], test.labels[:kept]) if kept else None,
            }
        self.run.commit(final, summary)
        return summary

    def _evaluate(self, split: Any, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        logits = evaluate(self.engine, split, indices, self.recipe.batch_size, self.stop)
        if logits is None:
            self.save_and_leave()
        assert logits is not None
        return logits

    def _load(self, checkpoint: Checkpoint, *, slots: bool) -> None:
        shapes = self.architecture.parameter_shapes
        named = {f"{slot}/{n}": shape for slot in self.recipe.slots for n, shape in shapes.items()}
        tensors = read_tensors(checkpoint.folder / "optimizer.safetensors", named) if slots else ()
        self.engine.load(read_tensors(checkpoint.folder / "model.safetensors", shapes), tensors)

    def _initial(self) -> Any:
        """Initial weights; with `--init-from` all but the last layer come from that file."""
        shapes, head = self.architecture.parameter_shapes, self.architecture.head.name
        drawn = initial_weights(self.recipe, self.architecture, self.options.seed)
        if self.init_from is None:
            return drawn
        reused = read_tensors(self.init_from, {n: s for n, s in shapes.items() if not n.startswith(head + ".")})
        return [*reused, *((n, a) for n, a in drawn if n.startswith(head + "."))]

    def _precision(self, recipe: Recipe) -> str:
        """`auto` continues a stored run as it began."""
        stored = self.run.read("run.json") if recipe.precision == "auto" else None
        return str(stored["recipe"]["precision"]) if stored else self.engine.resolve(recipe.precision)

    def _data_facts(self) -> dict[str, Any]:
        return {
            "name": self.data.name,
            "fingerprint": self.data.fingerprint,
            "train_images": len(self.data.train),
            "test_images": len(self.data.test),
        }


def jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def peak_memory() -> int:
    """Bytes of host memory that this process had in use at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
