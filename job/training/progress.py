"""How far a run is: the state that a checkpoint holds beside its tensors, and the options of a run that change no number."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass
class Progress:
    """Steps taken, and their losses and hits.  The fields are stored under their names in state.json, `lines` in metrics.jsonl."""

    step: int = 0
    """optimiser steps taken since the start of the run"""
    losses: list[float] = field(default_factory=list)
    """of each step in the current logging interval"""
    hits: list[int] = field(default_factory=list)
    """correctly classified images of each step in the current logging interval"""
    epoch_loss: float = 0.0
    """sum over the steps of the current epoch"""
    epoch_hits: int = 0
    """correctly classified images of the current epoch"""
    best: str | None = None
    """name of the checkpoint with the highest validation accuracy; None without a validation set"""
    best_accuracy: float = -1.0
    """validation accuracy of `best`, 0 to 1; -1: none yet"""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """of metrics.jsonl: one for each logging interval and each epoch, in order"""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == "epoch"]

    @property
    def intervals(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == "interval"]

    def add(self, losses: list[float], hits: list[int]) -> None:
        """Append the losses and hits of the last steps, one value for each step."""
        self.losses += losses
        self.hits += hits
        for loss in losses:  # one by one, so that the rounding of the sum does not depend on how often the device is read
            self.epoch_loss += loss
        self.epoch_hits += sum(hits)

    def end_interval(self, epoch: int, batch: int, **facts: float) -> float:
        """Append the line of the logging interval that ends here; returns its mean loss.  `batch`: images of a step."""
        loss = sum(self.losses) / len(self.losses)
        seen = {"loss": loss, "last_loss": self.losses[-1], "accuracy": sum(self.hits) / (len(self.hits) * batch)}
        self.lines.append({"kind": "interval", "step": self.step, "epoch": epoch, **seen, **facts})
        self.losses, self.hits = [], []
        return loss

    def median_speed(self, epoch: int | None = None) -> float | None:
        """Median images/s over the logging intervals of an epoch (from 1), or of all epochs; None without an interval."""
        speeds = [line["images_per_second"] for line in self.intervals if epoch in (None, line["epoch"])]
        return median(speeds) if speeds else None

    @property
    def state(self) -> dict[str, Any]:
        """All fields but `lines`, as state.json holds them."""
        return {name: value for name, value in vars(self).items() if name != "lines"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of a run that are no part of its recipe: the seed, and what does not change its results."""

    seed: int = 0
    """of everything random: data order, augmentation, initial weights, dropout"""
    threads: int = 1
    """CPU threads; they change the order of sums, so a resumed run uses the number that it began with"""
    log_steps: int = 50
    """steps of a logging interval"""
    checkpoint_steps: int = 0
    """also store a checkpoint every so many steps; 0: only at the end of each epoch"""
    flush_timeout: float = 600.0
    """seconds that a run waits at its end for the store to take all results"""
    spool: Path | None = None
    """folder in which uploads wait; None: in a local output, else in the folder for temporary files"""
    spool_limit: int = 2 << 30
    """bytes that may wait in the spool; beyond them training waits"""
    image: str = ""
    """name of the container image, for the record"""


def jsonl(lines: list[dict[str, Any]]) -> str:
    """JSON Lines.  Raises ValueError for a number that is not finite."""
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def peak_memory() -> int:
    """Peak resident set size of this process, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
