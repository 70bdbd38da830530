"""Are these runs comparable, and if so, do they differ?

Runs that differ in nothing but the seed form one side: job.analysis.sides.  job.analysis.comparability says what makes a comparison
unfair, job.analysis.paired and over_seeds how it is tested, job.analysis.verdict what follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from job.analysis.comparability import find_differences
from job.analysis.evidence import Evidence, Figures, Matrix, Side
from job.analysis.over_seeds import Seeds, over_seeds, spread_of
from job.analysis.paired import Paired, paired
from job.analysis.sides import by_seed, hits_of, labels_of, refuse_repeats, side, sides_of
from job.analysis.statistics import calibration_error, per_class
from job.analysis.verdict import verdict
from job.core.metrics import wilson
from job.runs.contributions import engine_label
from job.runs.results import Results


@dataclass(frozen=True, kw_only=True)
class Comparison(Evidence):
    verdict: str
    """in a few plain sentences"""
    decided: bool
    """False: the verdict is withheld"""


def compare(runs: Sequence[Results], *, anyway: bool = False, margin: float | None = None) -> Comparison:
    """Two runs or more; a single one gives its figures and no verdict.

    `margin`: largest difference, as a share, that counts as equal.  Raises JobError (2) for a run that is given twice."""
    found = gather(runs, margin)
    unfair = any(not row.fair for row in found.differences)
    return Comparison(**vars(found), verdict=verdict(found, anyway=anyway), decided=len(runs) > 1 and (anyway or not unfair))


def gather(runs: Sequence[Results], margin: float | None = None) -> Evidence:
    """All figures and all tests."""
    refuse_repeats(runs)
    names, members = labels_of(runs), sides_of(runs)
    predictions = [run.logits.argmax(1) for run in runs]
    same_test = all(np.array_equal(run.labels, runs[0].labels) for run in runs)
    same_classes = all(classes_of(run) == classes_of(runs[0]) for run in runs)
    label_of = {number: label for label, numbers in members.items() for number in numbers}
    sides = {label: side(label, runs, names, predictions, numbers) for label, numbers in members.items()}
    pairs = pairs_of(runs, names, predictions, margin) if same_test else {}
    return Evidence(
        figures=[figures_of(run, names[i], label_of[i]) for i, run in enumerate(runs)],
        differences=find_differences(runs),
        sides=sides,
        seeds=seeds_of({label: hits_of(runs, predictions, m) for label, m in members.items()}, margin) if same_test else {},
        pairs=pairs,
        agreement=agreement_of(names, pairs),
        confusion_differences=confusion_differences(sides) if same_test and same_classes else {},
        irreproducible=irreproducible(runs, names, predictions, members),
        classes=list(classes_of(runs[0])) if same_classes else [],
        margin=margin,
    )


def pairs_of(
    runs: Sequence[Results], names: Sequence[str], predictions: Sequence[NDArray[np.integer]], margin: float | None
) -> dict[str, Paired]:
    return {
        f"{names[i]} | {names[j]}": paired(predictions[i], predictions[j], runs[i].labels, names=(names[i], names[j]), margin=margin)
        for i, j in combinations(range(len(runs)), 2)
    }


def seeds_of(hits: Mapping[str, NDArray[np.float64]], margin: float | None) -> dict[str, Seeds]:
    """Of every two sides; one with a single seed takes its spread from all that have several."""
    lent = spread_of(*hits.values())
    if lent is None:
        return {}
    return {f"{a} | {b}": over_seeds(hits[a], hits[b], lent=lent, names=(a, b), margin=margin) for a, b in combinations(hits, 2)}


def agreement_of(names: Sequence[str], pairs: Mapping[str, Paired]) -> list[list[float | None]]:
    shares = {name: pair.agreement for name, pair in pairs.items()}
    return [[1.0 if a == b else shares.get(f"{a} | {b}", shares.get(f"{b} | {a}")) for b in names] for a in names]


def confusion_differences(sides: Mapping[str, Side]) -> dict[str, Matrix]:
    return {
        f"{a} | {b}": (np.array(sides[b].confusion) - np.array(sides[a].confusion)).tolist()
        for a, b in combinations(sides, 2)
        if sides[a].confusion
    }


def irreproducible(
    runs: Sequence[Results], names: Sequence[str], predictions: Sequence[NDArray[np.integer]], members: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """Runs that are equal in all that is recorded, the seed included, give the same bytes: it is promised, but where an operation without a
    deterministic kernel was used.  Here are those that do not."""
    found = {}
    for numbers in members.values():
        for same in by_seed(runs, numbers).values():
            for i, j in combinations(same, 2):
                promised = not any(runs[k].summary.get("nondeterministic") for k in (i, j))
                if not promised or np.array_equal(runs[i].logits, runs[j].logits):
                    continue
                if any(row.effect != "none" for row in find_differences([runs[i], runs[j]])):
                    continue
                other = int((predictions[i] != predictions[j]).sum())
                what = f"{other:,} of {len(predictions[i]):,} predictions" if other else "the logits, though no prediction"
                found[f"{names[i]} | {names[j]}"] = what
    return found


def accuracy(run: Results) -> float:
    return float((run.logits.argmax(1) == run.labels).mean())


def classes_of(run: Results) -> Sequence[str]:
    return run.record["data"].get("classes") or [str(c) for c in range(run.logits.shape[1])]


def figures_of(run: Results, name: str, label: str) -> Figures:
    predictions = run.logits.argmax(1)
    hits = int((predictions == run.labels).sum())
    low, high = wilson(hits, len(run.labels))
    return Figures(
        id=name,
        side=label,
        engine=engine_label(run.contributions),
        recipe=run.summary["recipe"],
        seed=run.record["seed"],
        epochs=run.summary["epochs"],
        train_accuracy=run.summary["train_accuracy"],
        test_accuracy=hits / len(run.labels),
        low=low,
        high=high,
        test_images=len(run.labels),
        calibration_error=calibration_error(run.logits, run.labels),
        per_class=per_class(predictions, run.labels, run.logits.shape[1]),
        images_per_second=run.summary["images_per_second"],
    )
