"""What the seeds of a side did epoch by epoch, and how two sides differ in each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from job.core.metrics import wilson
from job.core.records import EpochLine
from job.runs.results import Results

Floats = NDArray[np.float64]
Value = Callable[[EpochLine], float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure of a side's runs, over the E epochs in which every one of its S seeds has it."""

    epochs: NDArray[np.int64]
    """(E,) from 1"""
    seeds: tuple[int, ...]
    """(S,) ascending"""
    values: Floats
    """(S, E)"""

    @classmethod
    def of(cls, runs: Sequence[Results], value: Value) -> "Curve":
        ordered = sorted(runs, key=lambda run: run.record["seed"])
        tables = [{line["epoch"]: value(line) for line in run.lines if line["kind"] == "epoch"} for run in ordered]
        shared = sorted(epoch for epoch in tables[0] if all(np.isfinite(table.get(epoch, np.nan)) for table in tables))
        values = [[table[epoch] for epoch in shared] for table in tables]
        return cls(
            epochs=np.array(shared, dtype=np.int64),
            seeds=tuple(run.record["seed"] for run in ordered),
            values=np.array(values, dtype=np.float64).reshape(len(runs), -1),
        )

    @property
    def mean(self) -> Floats:
        """(E,)"""
        return np.asarray(self.values.mean(axis=0))

    def at(self, epochs: NDArray[np.int64]) -> Floats:
        """(S, len(epochs))"""
        return self.values[:, np.isin(self.epochs, epochs)]


@dataclass(frozen=True, kw_only=True)
class EpochDifferences:
    """Accuracy of the second side minus that of the first, with a 95 % interval in each of E epochs for itself."""

    epochs: NDArray[np.int64]
    """(E,)"""
    difference: Floats
    """(E,) of the means over the seeds"""
    low: Floats
    """(E,) not a number where the seeds of each side agree to the digit, so that their spread says nothing"""
    high: Floats
    """(E,)"""
    same_seed: Floats
    """(S, E) of each seed's two runs, which begin with the same weights and see the same images; (0, E) where the seeds are not the same"""
    over_seeds: bool
    """the interval's source: the spread between seeds, else the number of test images"""


def epoch_differences(first: Curve, second: Curve, images: int) -> EpochDifferences:
    """Of two curves of test accuracy, over the epochs that both have; `images` is the size of the test set.

    With several seeds on both sides: Welch's t interval (Biometrika 34 (1947), 28-35), which is about other seeds on these images.
    Otherwise Newcombe's interval for two independent proportions (Statistics in Medicine 17 (1998), 873-890, method 10).  It is a bound:
    which images were right is not stored for each epoch, and on the same images the paired interval is narrower.
    """
    epochs = np.intersect1d(first.epochs, second.epochs)
    a, b = first.at(epochs), second.at(epochs)
    difference = b.mean(axis=0) - a.mean(axis=0)
    several = min(len(a), len(b)) > 1
    low, high = _welch(a, b) if several else _newcombe(a.mean(axis=0), b.mean(axis=0), images)
    same = b - a if first.seeds == second.seeds else np.empty((0, len(epochs)))
    return EpochDifferences(epochs=epochs, difference=difference, low=low, high=high, same_seed=same, over_seeds=several)


def _welch(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """(S1, E), (S2, E) → (E,) each"""
    spread = np.ptp(first, axis=0) + np.ptp(second, axis=0) > 0
    low, high = np.full((2, first.shape[1]), np.nan)
    interval = scipy.stats.ttest_ind(second[:, spread], first[:, spread], equal_var=False).confidence_interval(0.95)
    low[spread], high[spread] = interval
    return low, high


def _newcombe(first: Floats, second: Floats, images: int) -> tuple[Floats, Floats]:
    """(E,), (E,) → (E,) each"""
    (low1, high1), (low2, high2) = (
        np.array([wilson(round(p * images), images) for p in side]).reshape(-1, 2).T for side in (first, second)
    )
    difference = second - first
    return difference - np.hypot(second - low2, high1 - first), difference + np.hypot(high2 - second, first - low1)
