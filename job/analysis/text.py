"""A comparison as text for a terminal."""

from job.analysis.comparison import Comparison
from job.analysis.formatting import columns, p_text, percent, points


def table(found: Comparison) -> str:
    parts = [runs(found), differences(found), pairs(found), agreement(found), seeds(found), classes(found), found.verdict]
    return "\n\n".join(part for part in parts if part)


def runs(found: Comparison) -> str:
    rows = [["run", "engine", "recipe", "seed", "epochs", "test", "95 % interval", "images", "ECE", "images/s", "(training)"]]
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
        rows.append([run.id, run.engine, run.recipe, *numbers, f"{run.images_per_second:.0f}", percent(run.train_accuracy)])
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
    rows = [["pair", "difference", "95 % interval", "McNemar", "only 1st right", "only 2nd right", "agree"]]
    for name, pair in found.pairs.items():
        interval = f"{points(pair.low)} to {points(pair.high)}"
        counts = [str(pair.only_first), str(pair.only_second), percent(pair.agreement)]
        rows.append([name, points(pair.difference), interval, p_text(pair.p), *counts])
    return columns(rows, right=1) if found.pairs else ""


def agreement(found: Comparison) -> str:
    """A matrix says no more than the list of pairs where there are two runs."""
    if len(found.figures) < 3 or not found.pairs:
        return ""
    names = [run.id for run in found.figures]
    rows = [[name, *("—" if share is None else percent(share) for share in row)] for name, row in zip(names, found.agreement, strict=True)]
    return columns([["same predictions", *names], *rows], right=1)


def seeds(found: Comparison) -> str:
    rows = [["over seeds", "difference", "95 % interval", "p", "seeds alone", "images alone"]]
    for name, side in found.seeds.items():
        intervals = [
            f"{points(low)} to {points(high)}"
            for low, high in ((side.low, side.high), (side.seeds_low, side.seeds_high), (side.images_low, side.images_high))
        ]
        rows.append([name, points(side.difference), intervals[0], p_text(side.p), *intervals[1:]])
    needed = ", ".join(f"{count} for {difference} points" for difference, count in found.needed.items())
    told = f"Seeds needed on each side to see a difference with 80 % power: {needed}." if needed else ""
    return "\n".join(part for part in (columns(rows, right=1) if found.seeds else "", told) if part)


def classes(found: Comparison) -> str:
    rows = [["test accuracy on", *(run.id for run in found.figures)]]
    for number, name in enumerate(found.classes):
        values = [run.per_class[number] if number < len(run.per_class) else None for run in found.figures]
        rows.append([name, *("—" if value is None else percent(value) for value in values)])
    return columns(rows, right=1) if found.classes else ""
