"""What two sets of predictions on the same images say about each other.

N images, K classes.  Predictions and labels are (N,); accuracies are shares from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from job.core.metrics import Labels, Logits, softmax

LEVEL = 0.05
"""below this p a difference counts as seen; intervals hold the truth in 95 of 100 cases"""
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
    """Two sides with several seeds each, on the same images; `difference` is the second side's mean accuracy minus the first's.

    Two things may have fallen otherwise: the seeds and the test images.  `low`, `high` and `p` count both.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds_low: float
    """95 % interval from the spread between seeds alone (Welch's t): what other seeds would give on these images"""
    seeds_high: float
    images_low: float
    """95 % interval from the images alone: what these very networks would give on other images"""
    images_high: float
    deviation: float
    """of the accuracy between seeds, pooled over the sides"""


def over_seeds(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Seeds:
    """Which images each seed has right, (S1, N) and (S2, N), with two seeds or more on each side.

    Squared standard errors are added, and their degrees of freedom combined as B. L. Welch does (Biometrika 34 (1947), 28-35).  That
    errs on the safe side: the spread over the images holds a part of that between the seeds.
    """
    means = [side.mean(axis=1) for side in (first, second)]
    difference = float(means[1].mean() - means[0].mean())
    gains = second.mean(axis=0) - first.mean(axis=0)
    images = (float(np.var(gains, ddof=1)) / len(gains), len(gains) - 1)
    seeds = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1) for side in means]
    (seeds_low, seeds_high), _ = _interval(difference, seeds)
    (images_low, images_high), _ = _interval(difference, [images])
    (low, high), p = _interval(difference, [*seeds, images])
    spread = sum(square * (freedom + 1) * freedom for square, freedom in seeds)
    return Seeds(
        difference=difference,
        low=low,
        high=high,
        p=p,
        seeds_low=seeds_low,
        seeds_high=seeds_high,
        images_low=images_low,
        images_high=images_high,
        deviation=sqrt(spread / sum(freedom for _, freedom in seeds)),
    )


def _interval(difference: float, parts: Sequence[tuple[float, int]]) -> tuple[tuple[float, float], float]:
    """95 % t interval and p of a difference whose squared standard error has `parts`, each with its degrees of freedom."""
    square = sum(part for part, _ in parts)
    if not square:
        return (difference, difference), float(not difference)
    freedom = square**2 / sum(part**2 / count for part, count in parts)
    low, high = stats.t.interval(1 - LEVEL, freedom, difference, sqrt(square))
    return (float(low), float(high)), float(2 * stats.t.sf(abs(difference) / sqrt(square), freedom))


def seeds_needed(deviation: float, difference: float, power: float = 0.8) -> int:
    """Seeds on each side with which a two-sided t test at 5 % sees `difference` with the given power; at least 2.

    Exact, by the noncentral t distribution: J. Cohen, "Statistical power analysis for the behavioral sciences", 2nd edition (1988), ch. 2.
    """
    if not deviation:
        return 2
    effect = difference / deviation
    seeds = max(2, int(2 * ((stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(power)) / effect) ** 2))  # the normal test needs fewer
    while _power(effect, seeds) < power:
        seeds += 1
    return seeds


def _power(effect: float, seeds: int) -> float:
    freedom, shift = 2 * seeds - 2, effect * sqrt(seeds / 2)
    bound = stats.t.ppf(1 - LEVEL / 2, freedom)
    return float(stats.nct.sf(bound, freedom, shift) + stats.nct.cdf(-bound, freedom, shift))
