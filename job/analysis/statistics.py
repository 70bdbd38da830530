"""What two sets of predictions on the same images say about each other.

N images, K classes.  Predictions and labels are (N,); accuracies are shares from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from job.core.metrics import Labels, Logits, softmax

RESAMPLES = 10_000
BINS = 15
"""of the calibration error"""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two classifiers on the same images; `difference` is the second's accuracy minus the first's."""

    only_first: int
    """images that only the first has right"""
    only_second: int
    p: float
    """McNemar's exact test: how probable a split as uneven as this is where both are equally good"""
    difference: float
    low: float
    """95 % bootstrap interval of the difference"""
    high: float
    agreement: float
    """share of the images on which both predict the same class"""


def paired(first: Labels, second: Labels, labels: Labels, seed: int = 0) -> Paired:
    """Compare two predictions of the same images."""
    right_first, right_second = first == labels, second == labels
    only_first = int((right_first & ~right_second).sum())
    only_second = int((~right_first & right_second).sum())
    low, high = bootstrap_difference(right_first, right_second, seed)
    return Paired(
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(only_first, only_second),
        difference=(only_second - only_first) / len(labels),
        low=low,
        high=high,
        agreement=float((first == second).mean()),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's test in its exact form: a binomial test on the discordant pairs.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157.
    """
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def bootstrap_difference(right_first: NDArray[np.bool_], right_second: NDArray[np.bool_], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the accuracy difference when images are drawn anew, pairs kept together.

    An image counts +1, 0 or -1, so a resample of N images is one draw from a multinomial distribution.
    """
    count = len(right_first)
    gained, lost = int((right_second & ~right_first).sum()), int((right_first & ~right_second).sum())
    draws = np.random.default_rng(seed).multinomial(count, [gained / count, lost / count, 1 - (gained + lost) / count], RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / count, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(logits: Logits, labels: Labels) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over 15 bins of equal width, weighted by their images.

    Source: C. Guo et al., "On calibration of modern neural networks", ICML 2017, section 2.
    """
    probabilities = softmax(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float(confidence[which == b].sum() - right[which == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(labels)


def per_class(predictions: Labels, labels: Labels, classes: int) -> list[float | None]:
    """Accuracy on the images of each class; None where there are none."""
    return [float((predictions[labels == c] == c).mean()) if (labels == c).any() else None for c in range(classes)]


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Two sides with several seeds each; `difference` is the second side's mean accuracy minus the first's."""

    difference: float
    low: float
    """95 % interval of the difference (Welch's t over the seeds): what another choice of seeds would give on these images"""
    high: float
    p: float
    deviation: float
    """of the accuracy between seeds, pooled over the sides"""


def over_seeds(first: Sequence[float], second: Sequence[float]) -> Seeds:
    """Accuracies of one side and of the other, one for each seed, two or more.  Welch's t test."""
    test = stats.ttest_ind(second, first, equal_var=False) if np.ptp(first) or np.ptp(second) else None
    difference = float(np.mean(second) - np.mean(first))
    variances = [float(np.var(side, ddof=1)) * (len(side) - 1) for side in (first, second)]
    deviation = sqrt(sum(variances) / (len(first) + len(second) - 2))
    if test is None:  # no spread at all
        return Seeds(difference=difference, low=difference, high=difference, p=float(difference == 0), deviation=0.0)
    interval = test.confidence_interval(0.95)
    return Seeds(difference=difference, low=float(interval.low), high=float(interval.high), p=float(test.pvalue), deviation=deviation)


def seeds_needed(deviation: float, difference: float, power: float = 0.8, level: float = 0.05) -> int:
    """Seeds on each side with which a two-sided t test sees `difference` with the given power; at least 2.

    Normal approximation, n = 2 (z₁₋ₐ⸝₂ + z_power)² σ² / d², and one more for the unknown deviation.
    """
    z = float(stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power))
    return max(2, ceil(2 * (z * deviation / difference) ** 2) + 1) if deviation else 2
