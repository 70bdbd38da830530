"""Curves as text: each character holds two by four dots (Unicode's braille patterns, U+2800)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.text import Text

BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""of the dot in row 0 to 3 and column 0 or 1"""


@dataclass(frozen=True, kw_only=True)
class Curve:
    points: Sequence[tuple[float, float]]
    """(x, y), x ascending"""
    style: str
    """as rich names it"""


def plot(curves: Sequence[Curve], *, width: int, height: int, right: float, bottom: float = 0.0, top: float | None = None) -> list[Text]:
    """`height` lines of `width` characters: the values at the left, then the curves from x = 0 to `right`.

    `top` is the greatest value shown; None: the greatest there is.
    """
    values = [y for curve in curves for _, y in curve.points if isfinite(y)]
    top = max(values, default=1.0) if top is None else top
    top = top if top > bottom else bottom + 1.0
    labels = [f"{top:.3g}", f"{bottom:.3g}"]
    margin = max(map(len, labels)) + 2
    columns = max(width - margin, 2)
    dots = [[0] * columns for _ in range(height)]
    styles = [[""] * columns for _ in range(height)]
    for curve in curves:
        for x, y in _joined(curve.points, 2 * columns, 4 * height, right=right, bottom=bottom, top=top):
            dots[y // 4][x // 2] |= BITS[y % 4][x % 2]
            styles[y // 4][x // 2] = curve.style
    lines = []
    for row in range(height):
        label = labels[0] if row == 0 else labels[1] if row == height - 1 else ""
        line = Text(f"{label:>{margin - 2}} ┤" if label else f"{'':>{margin - 2}} │", style="dim")
        for cell, style in zip(dots[row], styles[row], strict=True):
            line.append(chr(0x2800 + cell), style=style)
        lines.append(line)
    return lines


def _joined(
    points: Sequence[tuple[float, float]], columns: int, rows: int, *, right: float, bottom: float, top: float
) -> list[tuple[int, int]]:
    """The dots of a line through the points, (column, row) from the upper left."""
    found: list[tuple[int, int]] = []
    for x, y in points:
        if not isfinite(y):
            continue
        column = min(round(x / right * (columns - 1)), columns - 1) if right > 0 else 0
        row = round((top - min(max(y, bottom), top)) / (top - bottom) * (rows - 1))
        if found:
            begin, level = found[-1]
            steps = max(abs(column - begin), abs(row - level))
            found += [(begin + (column - begin) * i // steps, level + (row - level) * i // steps) for i in range(1, steps)]
        found.append((column, row))
    return found
