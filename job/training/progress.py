"""Where a run stands: what there is to do, what is done, and what was seen on the way."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.core.identity_records import ContributionRecord
from job.core.recipe import Recipe
from job.core.records import EpochLine, IntervalLine, MetricsLine, ProgressState
from job.core.sampling import steps_per_epoch, validation_split
from job.core.schedule import image_size
from job.core.throughput import Steps, seconds_left, steps_left


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The images to train on and those held out, and how many steps that makes."""

    train: NDArray[np.int64]
    """indices of the training images"""
    validation: NDArray[np.int64]
    """indices of the training images that are held out"""
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe, labels: NDArray[np.uint8], seed: int) -> "Workload":
        """Raises JobError (2) where the recipe asks for more images than there are `labels`."""
        if not recipe.validation < len(labels):
            raise JobError(Exit.USAGE, f"validation = {recipe.validation}: expected fewer than the {len(labels)} training images.")
        train, validation = validation_split(seed, labels, recipe.validation)
        if not steps_per_epoch(len(train), recipe.batch_size):
            raise JobError(
                Exit.USAGE, f"batch_size = {recipe.batch_size}: there are only {len(train)} training images. Choose a smaller batch."
            )
        return cls(train=train, validation=validation, recipe=recipe)

    @property
    def batch_size(self) -> int:
        return self.recipe.batch_size

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.train), self.batch_size)

    @property
    def images_per_epoch(self) -> int:
        return self.steps_per_epoch * self.batch_size

    @property
    def steps(self) -> int:
        """of the whole run"""
        return self.steps_per_epoch * self.epochs


class Progress:
    """Steps done, and what was seen in them.  A checkpoint holds it: `state` in state.json, `lines` in metrics.jsonl."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.step = 0
        """optimiser steps taken since the start of the run"""
        self.stepped_at: float | None = None
        """time.monotonic() of the last one of this attempt"""
        self.first_step = 0
        """steps that were done when this attempt began"""
        self.earlier: list[ContributionRecord] = []
        """which attempts took these"""
        self.best: str | None = None
        """name of the checkpoint with the highest validation accuracy; None without validation images"""
        self.best_accuracy = -1.0
        """validation accuracy of `best`, 0 to 1; -1: none yet"""
        self.epoch_loss = 0.0
        """sum over the steps of the current epoch"""
        self.epoch_hits = 0
        """correctly classified images of the current epoch"""
        self.lines: list[MetricsLine] = []
        """of metrics.jsonl: one for each logging interval and each epoch, in order"""
        self._losses: list[float] = []
        """of each step in the current logging interval"""
        self._hits: list[int] = []

    @property
    def epochs(self) -> list[EpochLine]:
        """The lines of the epochs that are done."""
        return [line for line in self.lines if line["kind"] == "epoch"]

    @property
    def intervals(self) -> list[IntervalLine]:
        return [line for line in self.lines if line["kind"] == "interval"]

    @property
    def image_size(self) -> int:
        """Side in pixels of the training images in the epoch in progress."""
        return image_size(self.workload.recipe, len(self.epochs), self.workload.epochs)

    @property
    def complete(self) -> bool:
        return len(self.epochs) == self.workload.epochs

    @property
    def validation_accuracy(self) -> float | None:
        """Of an epoch that has just ended."""
        newest = self.lines[-1] if self.lines else None
        return newest.get("validation_accuracy") if newest is not None and newest["kind"] == "epoch" else None

    def advance(self) -> None:
        """One more step is done."""
        self.step += 1
        self.stepped_at = time.monotonic()

    def count(self, losses: Sequence[float], hits: Sequence[int]) -> None:
        """Append the losses and hits of the last steps, one value for each step.  Raises JobError (76) where a loss is not finite."""
        for step, loss in enumerate(losses, self.step - len(losses) + 1):
            check_finite(loss, "loss", step)
        self._losses += losses
        self._hits += hits
        for loss in losses:  # one by one, so that the rounding of the sum does not depend on how often the device is read
            self.epoch_loss += loss
        self.epoch_hits += sum(hits)

    def end_interval(self, *, learning_rate: float, images_per_second: float) -> IntervalLine:
        """Write the line of the logging interval that ends here."""
        losses, hits = self._losses, self._hits
        line: IntervalLine = {
            "kind": "interval",
            "time": moment(),
            "step": self.step,
            "epoch": len(self.epochs) + 1,
            "loss": sum(losses) / len(losses),
            "last_loss": losses[-1],
            "accuracy": sum(hits) / (len(hits) * self.workload.batch_size),
            "learning_rate": learning_rate,
            "image_size": self.image_size,
            "images_per_second": round(images_per_second, 1),
        }
        self.lines.append(line)
        self._losses, self._hits = [], []
        return line

    def end_epoch(self, line: EpochLine) -> None:
        self.lines.append(line)
        self.epoch_loss, self.epoch_hits = 0.0, 0

    def record_best(self, checkpoint: str | None, accuracy: float) -> None:
        self.best, self.best_accuracy = checkpoint, accuracy

    def median_speed(self, epoch: int) -> float:
        """Images/s of the median step of an epoch, from 1."""
        steps = self.workload.steps_per_epoch
        return float(np.median(Steps.of(self.lines).speeds[(epoch - 1) * steps : epoch * steps]))

    @property
    def seconds_left(self) -> float | None:
        """That the training will still take: at the pace of the last whole epoch; before there is one, at the speed of the last logging
        interval.  None before that ends."""
        recipe, steps = self.workload.recipe, self.workload.steps
        if self.epochs:
            return seconds_left(recipe, self.epochs[-1], self.step, steps)
        if not self.intervals:
            return None
        return steps_left(recipe, self.step, steps, like=0) * recipe.batch_size / max(self.intervals[-1]["images_per_second"], 0.1)

    @property
    def state(self) -> ProgressState:
        """All but the lines."""
        return {
            "step": self.step,
            "losses": self._losses,
            "hits": self._hits,
            "epoch_loss": self.epoch_loss,
            "epoch_hits": self.epoch_hits,
            "best": self.best,
            "best_accuracy": self.best_accuracy,
        }

    def restore(self, state: ProgressState, lines: Sequence[MetricsLine], earlier: Sequence[ContributionRecord]) -> None:
        """Go on from a checkpoint."""
        self.earlier = list(earlier)
        self.step = self.first_step = state["step"]
        self._losses, self._hits = list(state["losses"]), list(state["hits"])
        self.epoch_loss, self.epoch_hits = state["epoch_loss"], state["epoch_hits"]
        self.best, self.best_accuracy = state["best"], state["best_accuracy"]
        self.lines = list(lines)


def moment() -> float:
    """Now, for a line: seconds since 1970, to the millisecond."""
    return round(time.time(), 3)


def check_finite(value: float, name: str, step: int) -> None:
    """Raises JobError (76)."""
    if not math.isfinite(value):
        raise JobError(
            Exit.DIVERGED,
            f"step {step}: the {name} is {value}, so the training has diverged. Lower learning_rate, lengthen warmup, or set clip_norm.",
        )


def to_jsonl(lines: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
