"""What the page says of the sides of a comparison: their accuracies, their differences, each class, and which mistakes differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from job.analysis.axis import percent_axis, points_axis
from job.analysis.comparison import Comparison
from job.analysis.evidence import Figures, Matrix, Share, Side
from job.analysis.formatting import percent, points
from job.analysis.over_seeds import Seeds
from job.analysis.paired import Paired
from job.analysis.text import MOST_PAIRS, interval, least, needed
from job.core.metrics import Labels
from job.figures.style import SideStyle, side_style

PLAIN = SideStyle("currentColor", (), "o")
"""of what belongs to no side"""
MOST_DRAWN = 4
"""sides whose intervals stand together in one cell"""
MOST_MATRICES = 3


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One interval in a plot."""

    low: float
    middle: float
    high: float
    style: SideStyle
    seeds: tuple[float, ...] = ()
    """drawn as small points"""

    @property
    def points(self) -> list[tuple[float, int]]:
        """Each seed and how far below the line it is drawn, in steps (negative: above), so that equal ones do not hide each other."""
        return [(seed, (1, -1, 2, -2, 3, -3)[self.seeds[:n].count(seed) % 6]) for n, seed in enumerate(self.seeds)]


def describe_sides(found: Comparison, labels: Labels) -> dict[str, object]:
    """For the template, of one run or several; `labels`: (N,) of the test images."""
    sides, styles = list(found.sides.values()), styles_of(found)
    pairs = found.pairs if len(found.pairs) <= MOST_PAIRS else {}
    tests: list[Seeds | Paired] = [*found.seeds.values(), *pairs.values()]
    differences = points_axis("difference in points", (bound for test in tests for bound in (test.low, test.high)))
    return {
        "sides": [_side(side, side_style(number)) for number, side in enumerate(sides)],
        "side_axis": percent_axis("test accuracy in %", (v for s in sides for v in (s.accuracy.low, s.accuracy.high, *s.seed_accuracies))),
        "rows": [_run(figures, styles[figures.id]) for figures in found.figures],
        "run_axis": percent_axis("test accuracy in %", (bound for f in found.figures for bound in (f.low, f.high))),
        "difference_axis": differences,
        "tests_of_sides": [_test(test) for test in found.seeds.values()],
        "needed": [needed(test) for test in found.seeds.values()],
        "pairs": [_test(pair) for pair in pairs.values()],
        "many_pairs": len(found.pairs) if not pairs else 0,
        "settings": [_setting(found, number) for number in range(len(found.differences))],
        **_classes(found, sides),
        "matrices": _matrices(found),
        "one_image": points(1 / float(np.bincount(labels)[np.unique(labels)].min()), sign=False),
    }


def styles_of(found: Comparison) -> dict[str, SideStyle]:
    """Of each run, that of its side."""
    return {name: side_style(number) for number, side in enumerate(found.sides.values()) for name in side.runs}


def _side(side: Side, style: SideStyle) -> dict[str, object]:
    share, several = side.accuracy, len(side.seeds) > 1
    return {
        "label": side.label,
        "style": style,
        "seeds": ", ".join(map(str, side.seeds)),
        "accuracy": percent(share.mean),
        "interval": f"{100 * share.low:.1f} – {100 * share.high:.1f}",
        "deviation": points(side.deviation, sign=False) if side.deviation is not None else "—",
        "bar": _bar(share, style, side.seed_accuracies if several else ()),
    }


def _run(figures: Figures, style: SideStyle) -> dict[str, object]:
    return {"figures": figures, "bar": Bar(low=figures.low, middle=figures.test_accuracy, high=figures.high, style=style)}


def _bar(share: Share, style: SideStyle, seeds: Sequence[float] = ()) -> Bar:
    return Bar(low=share.low, middle=share.mean, high=share.high, style=style, seeds=tuple(seeds))


def _test(test: Seeds | Paired) -> dict[str, object]:
    return {
        "test": test,
        "interval": interval(test),
        "least": least(test),
        "bar": Bar(low=test.low, middle=test.difference, high=test.high, style=PLAIN),
    }


def _setting(found: Comparison, number: int) -> dict[str, object]:
    """One row of what differs, with a value for each side: all that its runs have, each once."""
    row = found.differences[number]
    value = dict(zip((f.id for f in found.figures), row.values, strict=True))
    return {"row": row, "values": [", ".join(dict.fromkeys(value[name] for name in side.runs)) for side in found.sides.values()]}


def _classes(found: Comparison, sides: Sequence[Side]) -> dict[str, object]:
    """Accuracy on each class: of each side with its interval, its runs as points."""
    by_run, rows, drawn = {f.id: f.per_class for f in found.figures}, [], []
    for number, name in enumerate(found.classes):
        shares = [side.per_class[number] for side in sides]
        bars = []
        for style, side in enumerate(sides):
            own = [accuracy for run in side.runs if (accuracy := by_run[run][number]) is not None] if len(side.runs) > 1 else []
            if share := shares[style]:
                bars.append(_bar(share, side_style(style), own))
        drawn += [value for bar in bars for value in (bar.low, bar.high, *bar.seeds)]
        rows.append({"name": name, "shares": shares, "bars": bars, "change": _change(shares)})
    return {"classes": rows, "class_axis": percent_axis("test accuracy in %", drawn) if len(sides) <= MOST_DRAWN else None}


def _change(shares: Sequence[Share | None]) -> str | None:
    """Of two sides, the second minus the first."""
    if len(shares) != 2:
        return None
    first, second = shares
    if not first or not second:
        return "—"
    return points(second.mean - first.mean)


def _matrices(found: Comparison) -> list[dict[str, object]]:
    """Of each pair of sides, in which cells of the confusion matrix they differ by how many points."""
    pairs = [(a, b, found.confusion_differences.get(f"{a} | {b}")) for a, b in combinations(found.sides, 2)]
    return [_matrix(f"{b} minus {a}", found.classes, matrix) for a, b, matrix in pairs[:MOST_MATRICES] if matrix]


def _matrix(direction: str, classes: Sequence[str], matrix: Matrix) -> dict[str, object]:
    """Differences as the cells of a table; the square root shows small ones beside large ones."""
    most = max(abs(value) for row in matrix for value in row)
    rows = [
        {
            "name": name,
            "cells": [{"text": points(v), "shade": round(65 * (abs(v) / most) ** 0.5), "sign": _sign(v)} if v else None for v in row],
        }
        for name, row in zip(classes, matrix, strict=True)
    ]
    return {"direction": direction, "classes": classes, "rows": rows, "equal": not most}


def _sign(value: float) -> str:
    return "plus" if value > 0 else "minus"
