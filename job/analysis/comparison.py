"""Are these runs comparable, and if so, do they differ?

Runs of the same engine and recipe with several seeds form one side.  job.analysis.comparability says what makes a comparison unfair.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from job.analysis.comparability import Difference, find_differences
from job.analysis.statistics import Paired, Seeds, calibration_error, over_seeds, paired, per_class, seeds_needed
from job.analysis.verdict import verdict
from job.core.metrics import wilson
from job.runs.results import Results

NEEDED_FOR = (0.0025, 0.005, 0.01, 0.02)
"""accuracy differences for which the number of needed seeds is told"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run in the table."""

    id: str
    engine: str
    recipe: str
    seed: int
    epochs: int
    train_accuracy: float
    test_accuracy: float
    low: float
    """of Wilson's 95 % interval"""
    high: float
    test_images: int
    calibration_error: float
    per_class: list[float | None]
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    figures: list[Figures]
    differences: list[Difference]
    """the unfair ones first"""
    pairs: dict[str, Paired]
    """ "first | second" → the paired test; none where the test images differ"""
    agreement: list[list[float | None]]
    sides: dict[str, list[str]]
    """label → its runs"""
    seeds: dict[str, Seeds]
    """ "first | second" → the summary over seeds, where every side has several"""
    needed: dict[str, int]
    """difference in points → seeds on each side that see it with 80 % power; empty with one seed on each side"""
    classes: list[str]
    """none where the runs do not have the same"""
    verdict: str
    decided: bool
    """False: the verdict is withheld"""


def compare(runs: Sequence[Results], *, anyway: bool = False) -> Comparison:
    """Two runs or more; a single one gives its figures and no verdict."""
    names, differences = labels_of(runs), find_differences(runs)
    unfair = [row.what for row in differences if not row.fair]
    figures = [figures_of(run, name) for run, name in zip(runs, names, strict=True)]
    sides = sides_of(runs)
    pairs: dict[str, Paired] = {}
    seeds: dict[str, Seeds] = {}
    agreement: list[list[float | None]] = [[1.0 if a is b else None for b in runs] for a in runs]
    if all(np.array_equal(run.labels, runs[0].labels) for run in runs):
        for (i, first), (j, second) in combinations(enumerate(runs), 2):
            result = paired(first.logits.argmax(1), second.logits.argmax(1), first.labels)
            pairs[f"{names[i]} | {names[j]}"] = result
            agreement[i][j] = agreement[j][i] = result.agreement
        if all(len(members) > 1 for members in sides.values()):
            hits = {label: np.stack([right(runs[i]) for i in members]) for label, members in sides.items()}
            seeds = {f"{a} | {b}": over_seeds(hits[a], hits[b]) for a, b in combinations(hits, 2)}
    return Comparison(
        figures=figures,
        differences=differences,
        pairs=pairs,
        agreement=agreement,
        sides={label: [names[i] for i in members] for label, members in sides.items()},
        seeds=seeds,
        needed=needed_seeds(runs, sides),
        classes=list(classes_of(runs[0])) if all(classes_of(run) == classes_of(runs[0]) for run in runs) else [],
        verdict=verdict(figures, {label: [figures[i] for i in m] for label, m in sides.items()}, pairs, seeds, unfair, anyway),
        decided=len(runs) > 1 and (not unfair or anyway),
    )


def labels_of(runs: Sequence[Results]) -> list[str]:
    """The runs' ids where these tell them apart, else where they lie, numbered if one is given twice."""
    labels = [run.id for run in runs]
    if len(set(labels)) < len(runs):
        labels = [run.url for run in runs]
    seen: Counter[str] = Counter()
    for number, label in enumerate(labels):
        seen[label] += 1
        if seen[label] > 1:
            labels[number] = f"{label} ({seen[label]})"
    return labels


def sides_of(runs: Sequence[Results]) -> dict[str, list[int]]:
    """Label of a side → the positions of its runs, in the order of first appearance."""
    fields = {key for run in runs for key, value in run.record["recipe"].items() if value != runs[0].record["recipe"].get(key)}
    several_names = "name" in fields
    found: dict[tuple[object, ...], list[int]] = {}
    for number, run in enumerate(runs):
        found.setdefault((run.summary["engine"], *(run.record["recipe"].get(key) for key in sorted(fields))), []).append(number)
    sides: dict[str, list[int]] = {}
    for members in found.values():
        run = runs[members[0]]
        label = run.summary["engine"] + (f", {run.record['recipe']['name']}" if several_names else "")
        if label in sides:
            label += "".join(f", {key} {run.record['recipe'].get(key)}" for key in sorted(fields - {"name"}))
        sides[label] = members
    return sides


def needed_seeds(runs: Sequence[Results], sides: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """From the spread between the seeds of each side."""
    spreads = [([accuracy(runs[i]) for i in members]) for members in sides.values() if len(members) > 1]
    if not spreads:
        return {}
    squares = sum(float(np.var(spread)) * len(spread) for spread in spreads)
    deviation = float(np.sqrt(squares / sum(len(spread) - 1 for spread in spreads)))
    return {f"{100 * difference:g}": seeds_needed(deviation, difference) for difference in NEEDED_FOR}


def right(run: Results) -> NDArray[np.bool_]:
    """(N,)"""
    return np.asarray(run.logits.argmax(1) == run.labels)


def accuracy(run: Results) -> float:
    return float(right(run).mean())


def classes_of(run: Results) -> Sequence[str]:
    return run.record["data"].get("classes") or [str(c) for c in range(run.logits.shape[1])]


def figures_of(run: Results, name: str) -> Figures:
    hits = int(right(run).sum())
    low, high = wilson(hits, len(run.labels))
    return Figures(
        id=name,
        engine=run.summary["engine"],
        recipe=run.summary["recipe"],
        seed=run.record["seed"],
        epochs=run.summary["epochs"],
        train_accuracy=run.summary["train_accuracy"],
        test_accuracy=hits / len(run.labels),
        low=low,
        high=high,
        test_images=len(run.labels),
        calibration_error=calibration_error(run.logits, run.labels),
        per_class=per_class(run.logits.argmax(1), run.labels, run.logits.shape[1]),
        images_per_second=run.summary["images_per_second"],
    )
