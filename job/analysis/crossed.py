"""The mean of a difference in which both seeds and images are drawn by chance: its standard error in two parts, interval, p and power.

Half the interval's width is √(t_S² S + t_I² I), S and I the squared standard errors from the seeds and from the images, each with its
own quantile: W. G. Howe, "Approximate confidence limits on the mean of X + Y", Journal of the American Statistical Association 69
(1974), 789-794.  Pooling their degrees of freedom instead (Satterthwaite) names too many differences where two seeds agree by chance.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import scipy
from numpy.typing import NDArray

from job.analysis.statistics import LEVEL, POWER, Equivalence

SMALLEST = 1e-12
"""p-values are not told apart below it"""
QUANTILES = (np.arange(500) + 0.5) / 500


@dataclass(frozen=True, kw_only=True)
class Error:
    """Of a mean, in shares."""

    seeds: float
    """squared standard error that comes from the seeds"""
    freedom: float
    """degrees of freedom with which it is known"""
    images: float
    """squared standard error that comes from the images; never 0"""
    test_images: int

    def reach(self, level: float = LEVEL, seeds: float | NDArray[np.float64] = 1.0) -> float | NDArray[np.float64]:
        """Half the width of the interval at confidence 1 - `level`; `seeds`: factors on the seeds' part, as it may come out."""
        of_seeds, of_images = (float(scipy.stats.t.isf(level / 2, freedom)) for freedom in (self.freedom, self.test_images - 1))
        return np.sqrt(of_seeds**2 * self.seeds * seeds + of_images**2 * self.images)

    def interval(self, difference: float, level: float = LEVEL) -> tuple[float, float]:
        reach = float(self.reach(level))
        return difference - reach, difference + reach

    def p(self, difference: float) -> float:
        """The level at which the interval just reaches 0."""
        return self._level(abs(difference))

    def equivalence(self, difference: float, margin: float) -> Equivalence:
        """Two one-sided tests."""
        low, high = self.interval(difference, 2 * LEVEL)
        room = margin - abs(difference)
        tail = self._level(abs(room)) / 2
        p = tail if room > 0 else 1 - tail
        return Equivalence(margin=margin, low=low, high=high, p=p, equal=p < LEVEL)

    def power(self, difference: float) -> float:
        """How probable it is that a true difference is seen: the mean over how the seeds' part may come out."""
        bound = self.reach(LEVEL, scipy.stats.chi2.ppf(QUANTILES, self.freedom) / self.freedom)
        deviation = sqrt(self.seeds + self.images)
        return float(np.mean(scipy.stats.norm.sf((bound - difference) / deviation) + scipy.stats.norm.sf((bound + difference) / deviation)))

    def detectable(self) -> float:
        """Smallest true difference that is seen with 80 % power, at most 1."""
        if self.power(1.0) < POWER:
            return 1.0
        return float(scipy.optimize.brentq(lambda difference: self.power(difference) - POWER, 0.0, 1.0, xtol=1e-7))

    def _level(self, reach: float) -> float:
        """At which half the interval's width is `reach`."""
        if self.reach(SMALLEST) <= reach:
            return SMALLEST
        return float(scipy.optimize.brentq(lambda level: self.reach(level) - reach, SMALLEST, 1.0, xtol=SMALLEST / 10, rtol=1e-10))
