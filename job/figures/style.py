"""The house style of all figures: one palette, one set of parameters, one way to make a figure and to save it.

Figures are drawn by matplotlib's Agg canvas without pyplot, so no display, window or global figure is involved, and the same numbers
give the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from job.core.records import MetricsLine

Lines = Sequence[MetricsLine]

# Okabe & Ito, "Color Universal Design" (2008): told apart with every common colour-vision deficiency.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TRAINING, TEST, VALIDATION, INTERVALS = VERMILION, BLUE, GREEN, ORANGE
TEXT, FADED = "#222222", "#555555"


class SideStyle(NamedTuple):
    """How one side of a comparison is drawn, everywhere: told apart by each of the three."""

    colour: str
    dash: tuple[float, ...]
    """lengths of strokes and gaps, in line widths; empty: solid"""
    marker: str
    """as matplotlib names it"""


# Told apart by lightness (L* from 10 to 75, the first two 31 apart), so also in grey, and with the common colour-vision deficiencies.
SIDES = (
    SideStyle("#004A80", (), "o"),
    SideStyle("#E07B00", (4.0, 1.5), "s"),
    SideStyle("#A92D6C", (1.2, 1.2), "^"),
    SideStyle("#6FC4EA", (7.0, 1.5, 1.2, 1.5), "D"),
    SideStyle("#26142E", (8.0, 2.0), "v"),
    SideStyle("#14875A", (3.0, 1.0, 1.0, 1.0, 1.0, 1.0), "P"),
)


def side_style(number: int) -> SideStyle:
    """Of side `number`, from 0.  From the seventh on the colours come again, with other dashes and markers."""
    again, place = divmod(number, len(SIDES))
    other = SIDES[(place + again) % len(SIDES)]
    return SideStyle(SIDES[place].colour, other.dash, other.marker)


STYLE = {
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.dpi": 100,
    "font.size": 11,
    "grid.color": "#DDDDDD",
    "text.color": TEXT,
    "text.parse_math": False,  # a recipe's name may hold dollar signs
}


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's defaults and `STYLE`, whatever the user's matplotlibrc says; restored afterwards."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` × `height` inches with its own canvas, which takes the place of pyplot's."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Figure, path: Path) -> Figure:
    """As PNG, without the version of matplotlib, so that the bytes depend on the numbers only."""
    figure.savefig(path, format="png", metadata={"Software": None})
    return figure


def series(points: Iterable[tuple[float, float | None]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The x and y of those points that have a finite y."""
    pairs = [(x, y) for x, y in points if y is not None and np.isfinite(y)]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
