"""How many seeds, or test images, it takes to see a difference: the power of the very test of `job.analysis.over_seeds`."""

from dataclasses import dataclass, replace
from math import ceil

import scipy

from job.analysis.crossed import Error
from job.analysis.statistics import LEVEL, POWER

DIFFERENCES = (0.0025, 0.005, 0.01, 0.02)
"""accuracy differences for which the number of needed seeds is told"""
MOST = 1_000
"""seeds on a side; where more were needed, images are what is wanting"""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is known for planning."""

    variances: tuple[float, float]
    """of the accuracy between the seeds of either side"""
    freedom: int
    """degrees of freedom with which they are known"""
    images: float
    """squared standard error that comes from the images, whatever the number of seeds"""
    test_images: int

    def error(self, seeds: int) -> Error:
        """With so many seeds on each side."""
        parts = [(variance / seeds, seeds - 1.0) for variance in self.variances]
        square, freedom = welch(parts)
        return Error(seeds=square, freedom=freedom, images=self.images, test_images=self.test_images)


@dataclass(frozen=True, kw_only=True)
class Needed:
    """To see a true difference with 80 % power."""

    difference: float
    seeds: int | None
    """on each side, if the seeds spread as measured; None: 1,000 are not enough on these test images"""
    cautious: int | None
    """the same if they spread as widely as the upper limit of the one-sided 80 % interval of their deviation"""
    images: int | None
    """where no number of seeds is enough: test images that are needed at least, with very many seeds"""


def welch(parts: list[tuple[float, float]]) -> tuple[float, float]:
    """Sum of squared standard errors, and its degrees of freedom: B. L. Welch, Biometrika 34 (1947), 28-35."""
    square = sum(part for part, _ in parts)
    return square, square**2 / sum(part**2 / freedom for part, freedom in parts) if square else sum(freedom for _, freedom in parts)


def needed_seeds(design: Design) -> list[Needed]:
    """For each of DIFFERENCES.

    The spread of few seeds is known badly, and a plan made with it is too small in half of all cases.  With the upper 80 % limit it is
    large enough in 80 %: R. H. Browne, Statistics in Medicine 14 (1995), 1933-1940.
    """
    widened = design.freedom / float(scipy.stats.chi2.ppf(1 - POWER, design.freedom))
    first, second = design.variances
    cautious = replace(design, variances=(first * widened, second * widened))
    rows = []
    for difference in DIFFERENCES:
        seeds = smallest(design, difference)
        rows.append(
            Needed(
                difference=difference,
                seeds=seeds,
                cautious=smallest(cautious, difference) if seeds else None,
                images=None if seeds else needed_images(design, difference),
            )
        )
    return rows


def smallest(design: Design, difference: float) -> int | None:
    """The smallest number of seeds on each side with enough power, at least 2; power rises with it."""
    low, high = 1, MOST
    if design.error(MOST).power(difference) < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if design.error(middle).power(difference) >= POWER else (middle, high)
    return high


def needed_images(design: Design, difference: float) -> int:
    """With which the images' part, which falls in proportion to their number, leaves enough power beside MOST seeds."""
    reach = float(scipy.stats.norm.isf(LEVEL / 2) + scipy.stats.norm.ppf(POWER))
    left = (difference / reach) ** 2 - design.error(MOST).seeds
    return ceil(design.test_images * design.images / left) if left > 0 else 0
