"""Outliers among GPUs that did the same work, by median and MAD, with one rate of false alarms for the whole fleet.

A group's median and its median absolute deviation (MAD) hardly move while less than half of it is bad, which mean and standard deviation
do.  A figure is an outlier where it lies farther from the median than Student's t allows, whose degrees of freedom say how well so few
GPUs tell their spread, at a level that is shared among all figures of all GPUs (Bonferroni), so that it holds however they hang together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, pi, sqrt
from typing import Literal

import numpy as np
from scipy import stats

FALSE_ALARMS = 0.01
"""chance that a fleet without a fault, whose figures (of ratios: their logarithms) are normally distributed, has any outlier"""
LEAST = 5
"""GPUs below which a group cannot tell an outlier"""
LEAST_VALUE = 1e-9
"""below which nothing that is compared by ratios is measured"""
NORMAL = 1.4826
"""standard deviations of a normal distribution in a MAD"""
EFFICIENCY = 0.3674
"""of the MAD on normal figures: it knows the spread as well as a standard deviation of so many times the GPUs does"""
MOST_BY_TAIL = 6
"""degrees of freedom up to which half of a small group's GPUs count: its MAD is tiny, and the tail as long as that of t with so many,
where so many are close together"""
SMALL = {5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
"""what the MAD of so few is too small by; n / (n − 0.8) for more.  Both: C. Croux and P. J. Rousseeuw, "Time-efficient algorithms for two
highly robust estimators of scale", Computational Statistics 1 (1992), 411-428; the efficiency: F. R. Hampel, Journal of the American
Statistical Association 69 (1974), 383-393."""

Side = Literal["low", "high", "both"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is measured of each GPU, and on which side of the others it is a fault."""

    name: str
    unit: str
    bad: Side
    floor: float
    """spread that is taken for granted, however alike the others are, so that what lies nearer is of no account; above 0"""
    ratio: bool = True
    """whether it is compared by its ratio to the others, so that a tenth is as far away as ten times, and `floor` is a share"""

    @property
    def tests(self) -> int:
        """of each GPU"""
        return 2 if self.bad == "both" else 1


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over a group."""

    figure: Figure
    values: Mapping[str, float]
    """name of the GPU → value"""
    median: float
    deviation: float
    """robust standard deviation, not below the floor; a share of the median where ratios are compared"""
    low: float | None
    """below which a value is an outlier; None: that side is no fault, or the group is too small"""
    high: float | None

    @property
    def outliers(self) -> dict[str, float]:
        """Name → value."""
        return {name: value for name, value in self.values.items() if self.is_outlier(value)}

    def is_outlier(self, value: float) -> bool:
        value = max(value, LEAST_VALUE) if self.figure.ratio else value
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)


def spread(figure: Figure, values: Mapping[str, float], tests: int) -> Spread:
    """`tests`: how many comparisons the whole fleet has, see `comparisons`."""
    every = np.array([*values.values()], dtype=np.float64)
    if figure.ratio:
        every = np.log(np.maximum(every, LEAST_VALUE))
    median = float(np.median(every))
    deviation = max(robust_deviation(every, median), figure.floor)
    room = limit(len(every), tests) * deviation if len(every) >= LEAST else None

    def shown(place: float) -> float:
        return exp(place) if figure.ratio else place

    return Spread(
        figure=figure,
        values=values,
        median=shown(median),
        deviation=deviation,
        low=shown(median - room) if room is not None and figure.bad != "high" else None,
        high=shown(median + room) if room is not None and figure.bad != "low" else None,
    )


def robust_deviation(values: np.typing.NDArray[np.float64], median: float) -> float:
    """Standard deviation of the bulk of the values, (N,), from their MAD."""
    count = len(values)
    return NORMAL * SMALL.get(count, count / (count - 0.8)) * float(np.median(np.abs(values - median)))


def limit(count: int, tests: int) -> float:
    """How many robust standard deviations from the median of `count` GPUs a value may lie."""
    freedom = max(min(count // 2, MOST_BY_TAIL), EFFICIENCY * count)
    of_the_median = sqrt(1 + pi / 2 / count)
    return of_the_median * float(stats.t.isf(FALSE_ALARMS / tests, freedom))


def comparisons(groups: list[tuple[Figure, int]]) -> int:
    """Comparisons of a fleet, from each figure of each group and the number of its GPUs; those that are too small have none."""
    return sum(figure.tests * count for figure, count in groups if count >= LEAST)
