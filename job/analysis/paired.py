"""Two sets of predictions on the same images: a test of the difference of their accuracies, its interval, and equivalence.

N images, of which b are right in the first only and c in the second only.  The test is McNemar's in its score form, z = (c - b) / √(b + c)
(Q. McNemar, Psychometrika 12 (1947), 153-157), and the interval inverts the very same score: T. Tango, "Equivalence test and confidence
interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998), 891-908.  So p is below 0.05
exactly where the 95 % interval excludes 0.  The exact test and the bootstrap, which disagree in places, are not used: M. W. Fagerland,
S. Lydersen, P. Laake, BMC Medical Research Methodology 13 (2013), article 91, find the exact test too cautious and this one sound.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from job.analysis.statistics import LEVEL, POWER, Equivalence
from job.core.metrics import Labels

Counts = int | NDArray[np.integer[Any]]
Numbers = NDArray[np.float64]
STEPS = 60
"""of the bisection: after them an interval of length 2 is as short as float64 allows"""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two classifiers on the same images; `difference` is the second's accuracy minus the first's."""

    direction: str
    """what is subtracted from what, by name"""
    only_first: int
    """images that only the first has right"""
    only_second: int
    p: float
    """two-sided, of McNemar's test: how probable a split as uneven as this is where both are equally good"""
    difference: float
    low: float
    """95 % interval of the difference (Tango)"""
    high: float
    agreement: float
    """share of the images on which both predict the same class"""
    detectable: float
    """smallest true difference that so many images with so many discordant pairs show with 80 % power"""
    equivalence: Equivalence | None
    """None: no margin was given"""


def paired(
    first: Labels, second: Labels, labels: Labels, *, names: tuple[str, str] = ("first", "second"), margin: float | None = None
) -> Paired:
    """Compare two predictions (N,) of the same images.  `margin`: largest share that counts as equal."""
    right_first, right_second = first == labels, second == labels
    only_first = int((right_first & ~right_second).sum())
    only_second = int((~right_first & right_second).sum())
    images = len(labels)
    low, high = score_interval(only_first, only_second, images)
    return Paired(
        direction=f"{names[1]} minus {names[0]}",
        only_first=only_first,
        only_second=only_second,
        p=float(mcnemar(only_first, only_second)),
        difference=(only_second - only_first) / images,
        low=float(low),
        high=float(high),
        agreement=float((first == second).mean()),
        detectable=detectable_difference(only_first + only_second, images),
        equivalence=None if margin is None else equivalence(only_first, only_second, images, margin),
    )


def mcnemar(only_first: Counts, only_second: Counts) -> Numbers:
    """Two-sided p of McNemar's score test; 1 without a discordant pair."""
    gain, discordant = np.subtract(only_second, only_first), np.add(only_first, only_second)
    return np.asarray(2 * scipy.stats.norm.sf(np.abs(gain) / np.sqrt(np.maximum(discordant, 1))))


def score(only_first: Counts, only_second: Counts, images: int, difference: float | Numbers) -> Numbers:
    """Tango's score of a true `difference`: standard normal where it is the true one, and falling in it (equations 8 to 10 there).

    `q` is the share of images that only the first has right, estimated under that difference.
    """
    lost, gained = np.asarray(only_first, dtype=np.float64), np.asarray(only_second, dtype=np.float64)
    b = 2 * images * difference - (gained - lost) * difference - lost - gained
    c = lost * difference * (1 - difference)
    with np.errstate(invalid="ignore", divide="ignore"):  # a difference of exactly ±1
        q = (np.sqrt(np.maximum(b * b + 8 * images * c, 0.0)) - b) / (4 * images)
        return np.asarray((gained - lost - images * difference) / np.sqrt(images * (2 * q + difference * (1 - difference))))


def score_interval(only_first: Counts, only_second: Counts, images: int, level: float = LEVEL) -> tuple[Numbers, Numbers]:
    """Bounds of the difference (second minus first) at confidence 1 - `level`; arrays of counts give arrays of bounds.

    Without a discordant pair they are ±z² / (N + z²), not 0 and 0.
    """
    bound = scipy.stats.norm.ppf(1 - level / 2)
    observed = np.subtract(only_second, only_first) / images
    ends = []
    for outermost, sign in ((-1.0, 1.0), (1.0, -1.0)):
        outside, inside = np.full_like(observed, outermost, dtype=np.float64), np.asarray(observed, dtype=np.float64)
        for _ in range(STEPS):
            middle = (outside + inside) / 2
            beyond = sign * score(only_first, only_second, images, middle) > bound
            outside, inside = np.where(beyond, middle, outside), np.where(beyond, inside, middle)
        ends.append(outside)
    return ends[0], ends[1]


def equivalence(only_first: int, only_second: int, images: int, margin: float) -> Equivalence:
    """Two one-sided score tests, which is what Tango's paper is about."""
    low, high = score_interval(only_first, only_second, images, 2 * LEVEL)
    above, below = (float(score(only_first, only_second, images, bound)) for bound in (-margin, margin))
    p = float(max(scipy.stats.norm.sf(above), scipy.stats.norm.cdf(below)))
    return Equivalence(margin=margin, low=float(low), high=float(high), p=p, equal=p < LEVEL)


def detectable_difference(discordant: int, images: int, power: float = POWER) -> float:
    """Smallest difference that McNemar's test sees with `power`, if the share of discordant pairs stays as it is.

    R. J. Connor, Biometrics 43 (1987), 207-211, without the small term δ², which errs on the safe side; there are at least as many
    discordant pairs as the difference demands.
    """
    reach = float(scipy.stats.norm.ppf(1 - LEVEL / 2) + scipy.stats.norm.ppf(power))
    return min(max(reach * sqrt(discordant), reach**2) / images, 1.0)
