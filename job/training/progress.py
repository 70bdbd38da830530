"""Where a run stands: what a checkpoint holds beside tensors, and how often and how patiently it is stored."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from job.core.records import EpochLine, IntervalLine, MetricsLine, ProgressState


@dataclass
class Progress:
    """Steps done, and what was seen in them.  Stored in state.json, its lines in metrics.jsonl."""

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
    lines: list[MetricsLine] = field(default_factory=list)
    """of metrics.jsonl"""

    @property
    def epochs(self) -> list[EpochLine]:
        return [line for line in self.lines if line["kind"] == "epoch"]

    @property
    def intervals(self) -> list[IntervalLine]:
        return [line for line in self.lines if line["kind"] == "interval"]

    def add(self, losses: list[float], hits: list[int]) -> None:
        """What the device counted in the last steps."""
        self.losses += losses
        self.hits += hits
        for loss in losses:  # one by one: the sum must not depend on when it was read
            self.epoch_loss += loss
        self.epoch_hits += sum(hits)

    def end_interval(self, epoch: int, batch: int, *, learning_rate: float, images_per_second: float) -> float:
        """Write the line of the interval that ends here; returns its mean loss."""
        loss = sum(self.losses) / len(self.losses)
        line: IntervalLine = {
            "kind": "interval",
            "step": self.step,
            "epoch": epoch,
            "loss": loss,
            "last_loss": self.losses[-1],
            "accuracy": sum(self.hits) / (len(self.hits) * batch),
            "learning_rate": learning_rate,
            "images_per_second": images_per_second,
        }
        self.lines.append(line)
        self.losses, self.hits = [], []
        return loss

    def median_speed(self, epoch: int | None = None) -> float:
        """Images/s over the intervals of an epoch, or of all; each epoch ends with one."""
        return median(line["images_per_second"] for line in self.intervals if epoch in (None, line["epoch"]))

    @property
    def state(self) -> ProgressState:
        """All but the lines."""
        return {
            "step": self.step,
            "losses": self.losses,
            "hits": self.hits,
            "epoch_loss": self.epoch_loss,
            "epoch_hits": self.epoch_hits,
            "best": self.best,
            "best_accuracy": self.best_accuracy,
        }


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is not part of the recipe, since it does not change the numbers."""

    seed: int = 0
    threads: int = 1
    """of the CPU; they change the order of sums, so a run keeps those that it began with"""
    log_steps: int = 50
    checkpoint_steps: int = 0
    """0: at the end of each epoch only"""
    flush_timeout: float = 600.0
    """seconds that the end of a run waits for the store"""
    spool: Path | None = None
    """folder in which uploads wait"""
    spool_limit: int = 2 << 30
    """bytes that may wait there before training does"""
    image: str = ""
    """name of the container image, for the record"""


def jsonl(lines: list[MetricsLine]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def peak_memory() -> int:
    """Bytes of host memory that this process had in use at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
