"""A comparison as text for a terminal."""

from job.analysis.comparison import Comparison
from job.analysis.formatting import columns, interval_text, p_text, percent, points
from job.analysis.over_seeds import Seeds
from job.analysis.paired import Paired
from job.analysis.power import MOST, Needed

MOST_PAIRS = 45
"""that are printed one by one, those of ten runs; --json has all"""


def table(found: Comparison) -> str:
    parts = [runs(found), differences(found), pairs(found), agreement(found), seeds(found), classes(found), found.verdict]
    return "\n\n".join(part for part in parts if part)


def runs(found: Comparison) -> str:
    rows = [["run", "side", "recipe", "seed", "epochs", "test", "95 % interval", "images", "ECE", "images/s", "(training)"]]
    for run in found.figures:
        interval = f"{100 * run.low:.1f} – {100 * run.high:.1f}"
        numbers = [
            str(run.seed),
            str(run.epochs),
            percent(run.test_accuracy),
            interval,
            str(run.test_images),
            f"{run.calibration_error:.3f}",
        ]
        rows.append([run.id, run.side, run.recipe, *numbers, f"{run.images_per_second:.0f}", percent(run.train_accuracy)])
    return columns(rows, right=3)


def differences(found: Comparison) -> str:
    if len(found.figures) < 2:
        return ""
    if not found.differences:
        return "The runs differ in nothing that is recorded."
    rows = [["differs", *(run.id for run in found.figures), ""]]
    for row in found.differences:
        rows.append([row.what, *row.values, f"{'fair' if row.fair else 'UNFAIR'}: {row.why}"])
    return columns(rows)


def pairs(found: Comparison) -> str:
    if not found.pairs:
        return ""
    if len(found.pairs) > MOST_PAIRS:
        return f"{len(found.pairs):,} pairs of runs: --json has them one by one."
    rows = [["two networks", "difference", "95 % interval", "McNemar", "only 1st right", "only 2nd right", "agree", "80 % power for"]]
    for pair in found.pairs.values():
        counts = [str(pair.only_first), str(pair.only_second), percent(pair.agreement)]
        rows.append([pair.direction, points(pair.difference), interval(pair), p_text(pair.p), *counts, least(pair)])
    return columns(rows, right=1)


def agreement(found: Comparison) -> str:
    """A matrix says no more than the list of pairs where there are two runs."""
    if len(found.figures) < 3 or not 0 < len(found.pairs) <= MOST_PAIRS:
        return ""
    names = [run.id for run in found.figures]
    rows = [[name, *("—" if share is None else percent(share) for share in row)] for name, row in zip(names, found.agreement, strict=True)]
    return columns([["same predictions", *names], *rows], right=1)


def seeds(found: Comparison) -> str:
    if not found.seeds:
        return ""
    rows = [["over seeds and images", "difference", "95 % interval", "p", "seeds alone", "images alone", "80 % power for"]]
    for test in found.seeds.values():
        alone = [
            " to ".join(interval_text(low, high)) for low, high in ((test.seeds_low, test.seeds_high), (test.images_low, test.images_high))
        ]
        rows.append([test.direction, points(test.difference), interval(test), p_text(test.p), *alone, least(test)])
    return "\n".join([columns(rows, right=1), *(needed(test) for test in found.seeds.values())])


def needed(test: Seeds) -> str:
    """The power of the very test above, for other numbers of seeds."""
    needed = "; ".join(f"{100 * row.difference:g}: {seeds_needed(row)}" for row in test.needed)
    return f"Seeds needed on each side to see a difference of so many points with 80 % power ({test.direction}): {needed}."


def seeds_needed(row: Needed) -> str:
    if row.seeds is None:
        return f"more test images instead, at least {row.images:,}" if row.images else f"more than {MOST:,}"
    return f"{row.seeds}" if row.cautious == row.seeds else f"{row.seeds} (to be safe {row.cautious or f'more than {MOST:,}'})"


def classes(found: Comparison) -> str:
    rows = [["test accuracy on", *(f"{label} (95 % interval)" for label in found.sides)]]
    for number, name in enumerate(found.classes):
        shares = [side.per_class[number] if number < len(side.per_class) else None for side in found.sides.values()]
        rows.append([name, *(f"{percent(s.mean)} ({100 * s.low:.1f} – {100 * s.high:.1f})" if s else "—" for s in shares)])
    return columns(rows, right=1) if found.classes else ""


def interval(test: Paired | Seeds) -> str:
    return " to ".join(interval_text(test.low, test.high))


def least(test: Paired | Seeds) -> str:
    return f"±{points(test.detectable, sign=False)}"
