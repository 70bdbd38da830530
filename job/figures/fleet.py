"""What a fleet's GPUs measured, each a dot, with the limits beyond which one is an outlier."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from job.figures.style import BLUE, FADED, VERMILION, house_style, new_figure, saved

WIDTH, HEIGHT = 10.0, 1.2
"""inches, of the figure and of one strip"""
NAMED = 3
"""outliers of a strip that are named"""
GOLDEN = 0.6180339887
"""its multiples, modulo 1, spread dots evenly however many there are"""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One figure of one group."""

    title: str
    """with the unit"""
    values: NDArray[np.float64]
    """(GPUs,), those of outliers not among them"""
    outliers: Sequence[tuple[str, float]]
    """(name, value), the farthest first"""
    median: float
    low: float | None
    """limit; None: that side has none"""
    high: float | None


def fleet_strips(strips: Sequence[Strip], path: Path) -> Figure:
    """One below the other, as PNG; at least one."""
    with house_style():
        figure = new_figure(WIDTH, HEIGHT * len(strips))
        for axes, strip in zip(figure.subplots(len(strips), squeeze=False)[:, 0], strips, strict=True):
            _draw(axes, strip)
        return saved(figure, path)


def _draw(axes: Axes, strip: Strip) -> None:
    axes.set_title(strip.title, fontsize=10)
    axes.plot(strip.values, np.arange(len(strip.values)) * GOLDEN % 1, ".", color=BLUE, alpha=0.5, markersize=5, markeredgewidth=0)
    for number, (name, value) in enumerate(strip.outliers):
        height = (number + 1) * GOLDEN % 1
        axes.plot([value], [height], "D", color=VERMILION, markersize=5)
        if number < NAMED:
            left = value > strip.median
            axes.annotate(
                name,
                (value, height),
                (-7 if left else 7, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                fontsize=8.5,
            )
    axes.axvline(strip.median, color=FADED, linewidth=1)
    for limit in (strip.low, strip.high):
        if limit is not None:
            axes.axvline(limit, color=VERMILION, linewidth=1, linestyle="--")
    axes.set_ylim(-0.25, 1.25)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
