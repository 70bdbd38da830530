"""Axes of the interval plots that stand in the tables of a page."""

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

TICKS = 5
"""at most"""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from `low` to `high`, with round ticks."""

    name: str
    """what it shows, and in which unit"""
    low: float
    high: float
    ticks: list[tuple[float, str]]
    """value, its text"""

    def at(self, value: float) -> float:
        """Place of a value in % of the axis' length, cut off at its ends."""
        return min(max(100 * (value - self.low) / (self.high - self.low), 0.0), 100.0)


def percent_axis(name: str, shares: Iterable[float]) -> Axis:
    """Of shares from 0 to 1, in %, a little wider than they reach and never beyond 0 and 100 %."""
    return _axis(name, [100 * share for share in shares] or [0.0, 100.0], bounds=(0.0, 100.0), sign="")


def points_axis(name: str, differences: Iterable[float]) -> Axis:
    """Of differences of shares, in points with their sign, zero among them."""
    return _axis(name, [0.0, *(100 * difference for difference in differences)], bounds=(-100.0, 100.0), sign="+")


def _axis(name: str, values: list[float], bounds: tuple[float, float], sign: str) -> Axis:
    margin = 0.05 * (max(values) - min(values)) or 0.5
    low, high = max(min(values) - margin, bounds[0]), min(max(values) + margin, bounds[1])
    chosen = [tick for tick in MaxNLocator(nbins=TICKS, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
    texts = [f"{tick:{sign}g}".replace("-", "−") if abs(tick) > 1e-9 else "0" for tick in chosen]
    return Axis(name=name, low=low / 100, high=high / 100, ticks=[(tick / 100, text) for tick, text in zip(chosen, texts, strict=True)])
