"""Two sides with several seeds, on the same images: a test that counts other seeds and other images alike, and its interval.

N images, S seeds.  Whether a seed has an image right is the sum of what the side, the seed and the image each add, and a rest.  Between
the means of two sides fall otherwise: the seeds (their main effect and their share of the rest), and the images (how differently the two
sides take to them).
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from job.analysis.crossed import Error
from job.analysis.power import Design, Needed, needed_seeds, welch
from job.analysis.statistics import LEVEL, Equivalence

Hits = NDArray[np.floating[Any]] | NDArray[np.bool_]
"""(S, N): which images each seed has right, 0 to 1"""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Between the seeds of a side, or of several."""

    variance: float
    """of the accuracy"""
    rest: float
    """mean over the images of the variance between seeds that is not common to all images"""
    freedom: int
    """degrees of freedom: seeds less one, of each side"""


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Two sides, of which one at least has several seeds; `difference` is the second side's mean accuracy minus the first's."""

    direction: str
    """what is subtracted from what, by name"""
    difference: float
    low: float
    """95 % interval of the difference, over other seeds and other images"""
    high: float
    p: float
    seeds_low: float
    """95 % interval from the spread between seeds alone: what other seeds would give on these images"""
    seeds_high: float
    images_low: float
    """95 % interval from the images alone: what these very networks would give on other images"""
    images_high: float
    deviations: tuple[float, float]
    """of the accuracy between seeds, on either side"""
    borrowed: bool
    """True: a side has one seed, and the spread is that of the sides that have several, taken to be the same"""
    detectable: float
    """smallest true difference that this design shows with 80 % power"""
    needed: list[Needed]
    """seeds on each side for given differences"""
    equivalence: Equivalence | None
    """None: no margin was given"""


def spread_of(*sides: Hits) -> Spread | None:
    """Pooled over the sides that have several seeds; None where there is none."""
    several = [np.asarray(side, dtype=np.float64) for side in sides if len(side) > 1]
    if not several:
        return None
    freedom = [len(side) - 1 for side in several]
    means = [side.mean(axis=1, keepdims=True) for side in several]
    variances = [float(np.var(mean, ddof=1)) for mean in means]
    rests = [float(np.var(side - mean, axis=0, ddof=1).mean()) for side, mean in zip(several, means, strict=True)]
    variance, rest = (float(np.average(values, weights=freedom)) for values in (variances, rests))
    return Spread(variance=variance, rest=rest, freedom=sum(freedom))


def over_seeds(
    first: Hits, second: Hits, *, lent: Spread | None = None, names: tuple[str, str] = ("first", "second"), margin: float | None = None
) -> Seeds:
    """Compare two sides.  A side with one seed takes its spread from `lent`, that of all sides with several, or from the other side."""
    difference, error, spreads = difference_of(first, second, lent)
    low, high = error.interval(difference)
    of_seeds, of_images = replace(error, images=0.0), replace(error, seeds=0.0, images=images_error(first, second))
    (seeds_low, seeds_high), (images_low, images_high) = (part.interval(difference) for part in (of_seeds, of_images))
    variances = (spreads[0].variance, spreads[1].variance)
    borrowed = min(len(first), len(second)) == 1
    freedom = spreads[0].freedom if borrowed else spreads[0].freedom + spreads[1].freedom
    design = Design(variances=variances, freedom=freedom, images=error.images, test_images=error.test_images)
    return Seeds(
        direction=f"{names[1]} minus {names[0]}",
        difference=difference,
        low=low,
        high=high,
        p=error.p(difference),
        seeds_low=seeds_low,
        seeds_high=seeds_high,
        images_low=images_low,
        images_high=images_high,
        deviations=(sqrt(variances[0]), sqrt(variances[1])),
        borrowed=borrowed,
        detectable=error.detectable(),
        needed=needed_seeds(design),
        equivalence=None if margin is None else error.equivalence(difference, margin),
    )


def difference_of(first: Hits, second: Hits, lent: Spread | None = None) -> tuple[float, Error, tuple[Spread, Spread]]:
    """The difference, its standard error, and the spread of either side.

    With one seed on a side this is the test of J. R. Crawford and D. C. Howell (The Clinical Neuropsychologist 12 (1998), 482-486), the
    images counted too: it holds as far as the side with one seed spreads like those with several.
    """
    counts = len(first), len(second)
    pooled = lent or spread_of(first, second)
    assert pooled, "one of the sides, or `lent`, has several seeds"
    own = spread_of(first), spread_of(second)
    if own[0] and own[1]:
        spreads = own[0], own[1]
        seeds, freedom = welch([(spread.variance / n, float(spread.freedom)) for spread, n in zip(spreads, counts, strict=True)])
    else:  # one estimate for both
        spreads = pooled, pooled
        seeds, freedom = pooled.variance * (1 / counts[0] + 1 / counts[1]), float(pooled.freedom)
    rest = sum(spread.rest / n for spread, n in zip(spreads, counts, strict=True)) / first.shape[1]  # the seeds' part holds it already
    images = max(images_error(first, second) - rest, unseen(first.shape[1]))
    difference = float(second.mean() - first.mean())
    return difference, Error(seeds=seeds, freedom=freedom, images=images, test_images=first.shape[1]), spreads


def images_error(first: Hits, second: Hits) -> float:
    """Squared standard error of the difference when images are drawn anew, for these very networks."""
    gains = second.mean(axis=0) - first.mean(axis=0)
    return float(np.var(gains, ddof=1)) / len(gains) + unseen(len(gains))


def unseen(images: int) -> float:
    """Squared standard error of a share for what N images cannot show: (z / N)², so that no interval has width 0.

    Where the images tell the sides in nothing apart, the interval becomes ±z² / N, as the score interval of a pair does.
    """
    return float(scipy.stats.norm.isf(LEVEL / 2) / images) ** 2


def mean_interval(side: Hits) -> tuple[float, float]:
    """95 % interval of the mean accuracy of a side with several seeds, over other seeds and other images, within 0 and 1."""
    spread, (count, images) = spread_of(side), side.shape
    assert spread, "Wilson's interval is for one seed"
    among = float(np.var(side.mean(axis=0), ddof=1)) if images > 1 else 0.0
    part = max(among - spread.rest / count, 0.0) / images + unseen(images)
    low, high = Error(seeds=spread.variance / count, freedom=float(spread.freedom), images=part, test_images=max(images, 2)).interval(
        float(side.mean())
    )
    return max(low, 0.0), min(high, 1.0)
