"""Numbers, lists and tables as text.  This module imports nothing large, since `alexnet runs` must not wait for scipy."""

from collections.abc import Sequence
from datetime import UTC, datetime

NAMED = 5
"""things that a sentence names; the table has all of them"""
ROUNDING = 5e-7
"""shares below it are 0: four digits of a percentage point do not show them"""


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def shortened(words: Sequence[str]) -> str:
    """`a, b, c, d, e and 7 more`: at most NAMED + 1 words are all named."""
    return listed(words if len(words) <= NAMED + 1 else [*words[:NAMED], f"{len(words) - NAMED} more"])


def percent(share: float) -> str:
    """A share from 0 to 1 in percent."""
    return f"{100 * share:.1f} %"


def points(share: float, *, sign: bool = True, digits: int = 1) -> str:
    """A difference of two shares in percentage points; with more digits where it would else look like 0, and without a sign where it is."""
    if abs(share) < ROUNDING:
        return f"{0:.{digits}f}"
    while digits < 4 and not float(f"{100 * share:.{digits}f}"):
        digits += 1
    return f"{100 * share:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def interval_text(low: float, high: float) -> tuple[str, str]:
    """The bounds of a difference in points, alike in their digits, so many that neither looks like 0 unless it is."""
    digits = max(len(points(bound).partition(".")[2]) for bound in (low, high))
    return points(low, digits=digits), points(high, digits=digits)


def p_text(p: float) -> str:
    """A p-value with two or three decimals; more where these would put it on the level of 0.05."""
    if p < 0.001:
        return "p < 0.001"
    digits = 2 if p >= 0.1 else 3
    while digits < 6 and p != 0.05 and float(f"{p:.{digits}f}") == 0.05:
        digits += 1
    return f"p = {p:.{digits}f}"


def duration(seconds: float) -> str:
    """Such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def date(moment: float) -> str:
    """Seconds since 1970 as a date and a time in UTC; — where they are beyond any calendar."""
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "—"


def ago(seconds: float) -> str:
    """An age in the largest unit that fits, such as `3 h ago`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def columns(rows: Sequence[Sequence[str]], *, right: int = 0) -> str:
    """Rows as lines of aligned columns; columns from index `right` on are right-aligned (0: none)."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right and i >= right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
