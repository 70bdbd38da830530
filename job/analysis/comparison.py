"""Are these runs comparable, and if so, do they differ?

Runs of the same engine and recipe with several seeds form one side.  A difference is unfair unless HARMLESS lists it: engine, library
versions and device are what is compared, and seeds are repetitions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from job.analysis.statistics import Paired, Seeds, calibration_error, over_seeds, paired, per_class, seeds_needed
from job.core.metrics import wilson
from job.io.checkpoint import sha256_of
from job.io.results import Results

LEVEL = 0.05
"""below this p a difference counts as seen"""
VISIBLE = 0.01
"""the accuracy difference for which the number of needed seeds is told"""
LIBRARIES = ("torch", "tensorflow", "keras", "cuda", "cudnn", "numpy")
HARMLESS = {
    "seed": "a repetition",
    "engine": "what is compared",
    "device": "stated, as it changes rounding and speed only",
    "library versions": "stated",
    "recipe name": "a name",
    "threads": "rounding only",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row of the comparability table."""

    what: str
    values: list[str]
    """one for each run"""
    fair: bool
    why: str


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
    high: float
    test_images: int
    calibration_error: float
    per_class: list[float | None]
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    figures: list[Figures]
    differences: list[Difference]
    pairs: dict[str, Paired]
    """ "first | second" → the paired test; none where the test images differ"""
    agreement: list[list[float | None]]
    seeds: Seeds | None
    sides: list[str]
    classes: list[str]
    verdict: str
    decided: bool
    """False: the verdict is withheld"""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def unfair(self) -> list[Difference]:
        return [row for row in self.differences if not row.fair]


def compare(runs: Sequence[Results], *, anyway: bool = False) -> Comparison:
    """Two runs or more; a single one gives its figures and no verdict."""
    differences = find_differences(runs)
    same_images = all(np.array_equal(run.labels, runs[0].labels) for run in runs)
    pairs = {}
    agreement: list[list[float | None]] = [[1.0 if a is b else None for b in runs] for a in runs]
    for (i, first), (j, second) in combinations(enumerate(runs), 2):
        if same_images:
            result = paired(first.logits.argmax(1), second.logits.argmax(1), first.labels)
            pairs[f"{first.id} | {second.id}"] = result
            agreement[i][j] = agreement[j][i] = result.agreement
    sides = sides_of(runs)
    seeds = None
    if len(sides) == 2 and all(len(side) > 1 for side in sides.values()):
        first_side, second_side = ([accuracy(run) for run in side] for side in sides.values())
        seeds = over_seeds(first_side, second_side)
    unfair = [row for row in differences if not row.fair]
    decided = len(runs) > 1 and (not unfair or anyway)
    return Comparison(
        figures=[figures_of(run) for run in runs],
        differences=differences,
        pairs=pairs,
        agreement=agreement,
        seeds=seeds,
        sides=list(sides),
        classes=list(classes_of(runs[0])),
        verdict=verdict(runs, sides, pairs, seeds, unfair, anyway),
        decided=decided,
    )


def find_differences(runs: Sequence[Results]) -> list[Difference]:
    """Everything in which the runs differ, the unfair rows first."""
    table = [described(run) for run in runs]
    rows = []
    for what in dict.fromkeys(key for row in table for key in row):
        values = [str(row.get(what, "—")) for row in table]
        if len(set(values)) > 1:
            rows.append(Difference(what=what, values=values, fair=what in HARMLESS, why=HARMLESS.get(what, "changes the accuracy")))
    return sorted(rows, key=lambda row: row.fair)


def described(run: Results) -> dict[str, Any]:
    """What must be equal for a fair comparison, and what is stated beside it."""
    summary, record = run.summary, run.record
    recipe = {f"recipe: {key}": value for key, value in record["recipe"].items() if key != "name"}
    versions = ", ".join(
        f"{name} {summary[name]}" for name in ("torch", "tensorflow", "keras", "cuda", "cudnn", "numpy") if summary.get(name)
    )
    return {
        "data fingerprint": record["data"]["fingerprint"][:12],
        "training images": record["data"]["train_images"],
        "test images": len(run.labels),
        "test labels": sha256_of(run.labels.tobytes())[:12],
        "epochs done": summary["epochs"],
        "parameters": summary.get("parameters", "—"),
        **recipe,
        "seed": record["seed"],
        "engine": summary["engine"],
        "device": summary["device"],
        "library versions": versions,
        "recipe name": record["recipe"]["name"],
        "threads": record.get("threads", "—"),
    }


def sides_of(runs: Sequence[Results]) -> dict[str, list[Results]]:
    """Label of a side → its runs, in the order of first appearance."""
    sides: dict[str, list[Results]] = {}
    several_recipes = len({run.summary["recipe"] for run in runs}) > 1
    for run in runs:
        label = run.summary["engine"] + (f", {run.summary['recipe']}" if several_recipes else "")
        sides.setdefault(label, []).append(run)
    return sides


def accuracy(run: Results) -> float:
    return float((run.logits.argmax(1) == run.labels).mean())


def classes_of(run: Results) -> Sequence[str]:
    names: Sequence[str] = run.record["data"].get("classes") or [str(c) for c in range(run.logits.shape[1])]
    return names


def figures_of(run: Results) -> Figures:
    predictions = run.logits.argmax(1)
    hits = int((predictions == run.labels).sum())
    low, high = wilson(hits, len(run.labels))
    return Figures(
        id=run.id,
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
        per_class=per_class(predictions, run.labels, run.logits.shape[1]),
        images_per_second=run.summary["images_per_second"],
    )


def verdict(
    runs: Sequence[Results],
    sides: Mapping[str, Sequence[Results]],
    pairs: Mapping[str, Paired],
    seeds: Seeds | None,
    unfair: Sequence[Difference],
    anyway: bool,
) -> str:
    """One plain sentence."""
    if len(runs) == 1:
        return "One run: nothing to compare."
    if unfair and not anyway:
        return f"No verdict: the runs are not comparable, they differ in {listed([row.what for row in unfair])}."
    prefix = f"Unfair comparison ({listed([row.what for row in unfair])} differ): " if unfair else ""
    if not pairs:
        return prefix + "no paired test is possible, because the test images differ."
    if seeds is not None:
        return prefix + seeds_sentence(sides, seeds)
    if len(runs) == 2:
        return prefix + pair_sentence(runs, next(iter(pairs.values())))
    return prefix + many_sentence(pairs)


def pair_sentence(runs: Sequence[Results], result: Paired) -> str:
    first, second = runs
    shares = f"{accuracy(first):.1%} vs {accuracy(second):.1%}"
    detail = f"{spaced(shares)}, {p_text(result.p)}, 95 % interval {points(result.low)} to {points(result.high)} points"
    if result.only_first + result.only_second == 0 and result.agreement == 1:
        return f"The runs are the same in every prediction ({detail})."
    if result.p >= LEVEL:
        return f"No difference can be seen: {detail}."
    better = second if result.difference > 0 else first
    return f"{better.id} ({better.summary['engine']}) is better: {detail}; one seed each, so other seeds may decide otherwise."


def seeds_sentence(sides: Mapping[str, Sequence[Results]], seeds: Seeds) -> str:
    names = list(sides)
    means = [float(np.mean([accuracy(run) for run in side])) for side in sides.values()]
    counts = " and ".join(str(len(side)) for side in sides.values())
    detail = (
        f"{spaced(f'{means[0]:.1%} vs {means[1]:.1%}')} on average over {counts} seeds, {p_text(seeds.p)}, "
        f"95 % interval {points(seeds.low)} to {points(seeds.high)} points"
    )
    needed = f"; to see a difference of {100 * VISIBLE:.0f} point, {seeds_needed(seeds.deviation, VISIBLE)} seeds on each side are needed"
    if seeds.p >= LEVEL:
        return f"No difference can be seen: {detail}{needed}."
    return f"{names[1] if seeds.difference > 0 else names[0]} is better: {detail}{needed}."


def many_sentence(pairs: Mapping[str, Paired]) -> str:
    """Several runs: Holm's correction over all pairs (S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70)."""
    seen = []
    for rank, (name, result) in enumerate(sorted(pairs.items(), key=lambda item: item[1].p)):
        if result.p >= LEVEL / (len(pairs) - rank):
            break
        seen.append(name.replace(" | ", " and "))
    if not seen:
        return f"No difference can be seen in any of the {len(pairs)} pairs (McNemar's test with Holm's correction)."
    return f"{len(seen)} of {len(pairs)} pairs differ (McNemar's test with Holm's correction): {listed(seen)}."


def listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def points(share: float) -> str:
    """A difference in percentage points with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"


def spaced(text: str) -> str:
    """91.1% → 91.1 %"""
    return re.sub(r"(\d)%", r"\1 %", text)
