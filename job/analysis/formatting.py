"""Numbers, lists and tables as text.  This module imports nothing large, since `alexnet runs` must not wait for scipy."""

import re
from collections.abc import Sequence

NAMED = 5
"""things that a sentence names; the table has all of them"""


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def shortened(words: Sequence[str]) -> str:
    """`a, b, c, d, e and 7 more`: at most NAMED + 1 words are all named."""
    return listed(words if len(words) <= NAMED + 1 else [*words[:NAMED], f"{len(words) - NAMED} more"])


def percent(share: float) -> str:
    """A share from 0 to 1 in percent."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return re.sub("^-", "−", f"{100 * share:+.1f}")


def p_text(p: float) -> str:
    """A p-value with two or three decimals."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def duration(seconds: float) -> str:
    """Such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


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
