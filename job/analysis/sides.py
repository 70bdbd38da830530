"""Runs that belong together: which form a side, what a side is called, and what its seeds say together."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from job.analysis.comparability import features
from job.analysis.evidence import Matrix, Share, Side
from job.analysis.over_seeds import mean_interval
from job.core.exits import Exit, JobError
from job.core.metrics import confusion, wilson
from job.runs.contributions import engine_label
from job.runs.results import Results
from job.storage.files import sha256_of, without_secrets

LARGEST_MATRIX = 20
"""classes above which there is no confusion matrix"""
NAMED = 3
"""features that a label names at most"""
BySeed = dict[int, list[int]]
"""seed → the positions of its runs"""


def refuse_repeats(runs: Sequence[Results]) -> None:
    """A run that is given twice, at whatever addresses, would count as two seeds.  Raises JobError (2)."""
    seen: dict[str, Results] = {}
    for run in runs:
        digest = sha256_of(
            json.dumps(run.summary, sort_keys=True).encode()
        )  # it holds the run's id, its times and the digests of its results
        if digest in seen:
            raise JobError(
                Exit.USAGE,
                f"{without_secrets(seen[digest].url)} and {without_secrets(run.url)} are the same run, {run.id}. Name each run once.",
            )
        seen[digest] = run


def labels_of(runs: Sequence[Results]) -> list[str]:
    """The runs' ids where these tell them apart, else where they lie."""
    ids = [run.id for run in runs]
    return ids if len(set(ids)) == len(ids) else [run.url for run in runs]


def sides_of(runs: Sequence[Results]) -> dict[str, list[int]]:
    """Label of a side → the positions of its runs, in the order of first appearance."""
    table = [features(run) for run in runs]
    found: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number, row in enumerate(table):
        found.setdefault(tuple(sorted(row.items())), []).append(number)
    members = list(found.values())
    firsts = [numbers[0] for numbers in members]
    return dict(zip(_labels([runs[i] for i in firsts], [table[i] for i in firsts]), members, strict=True))


def _labels(runs: Sequence[Results], table: Sequence[Mapping[str, str]]) -> list[str]:
    """The engine; the recipe, where there are several; and of sides that share these, in what they differ."""
    several = len({run.record["recipe"]["name"] for run in runs}) > 1
    short = [engine_label(run.contributions) + (f", {run.record['recipe']['name']}" if several else "") for run in runs]
    labels = []
    for label, row in zip(short, table, strict=True):
        rivals = [other for other, named in zip(table, short, strict=True) if named == label]
        differing = [field for field in row if any(other.get(field) != row[field] for other in rivals)]
        labels.append(", ".join([label, *(_feature(field, row[field]) for field in differing[:NAMED])]))
    return [label if labels.count(label) == 1 else f"{label} ({number})" for number, label in enumerate(labels, 1)]


def _feature(what: str, value: str) -> str:
    return value if what in ("device kind", "library versions") else f"{what.removeprefix('recipe: ')} {value}"


def by_seed(runs: Sequence[Results], members: Sequence[int]) -> BySeed:
    """Seeds in ascending order."""
    found: BySeed = defaultdict(list)
    for number in members:
        found[runs[number].record["seed"]].append(number)
    return {seed: found[seed] for seed in sorted(found)}


def hits_of(runs: Sequence[Results], predictions: Sequence[NDArray[np.integer]], members: Sequence[int]) -> NDArray[np.float64]:
    """(S, N): which images each seed has right; runs with the same seed are no repetitions and count as their mean."""
    seeds = by_seed(runs, members).values()
    return np.array([np.mean([predictions[i] == runs[i].labels for i in same], axis=0) for same in seeds])


def side(
    label: str, runs: Sequence[Results], names: Sequence[str], predictions: Sequence[NDArray[np.integer]], members: Sequence[int]
) -> Side:
    """Its runs have the same test images."""
    seeds, hits = by_seed(runs, members), hits_of(runs, predictions, members)
    labels, classes = runs[members[0]].labels, runs[members[0]].logits.shape[1]
    accuracies = hits.mean(axis=1)
    return Side(
        label=label,
        runs=[names[i] for i in members],
        seeds=list(seeds),
        seed_accuracies=[float(accuracy) for accuracy in accuracies],
        accuracy=share(hits),
        deviation=float(np.std(accuracies, ddof=1)) if len(seeds) > 1 else None,
        per_class=[share(hits[:, labels == c]) if (labels == c).any() else None for c in range(classes)],
        confusion=_confusion([[_shares(runs[i].labels, predictions[i], classes) for i in same] for same in seeds.values()], classes),
    )


def share(hits: NDArray[np.float64]) -> Share:
    """(S, N) → the mean, with its 95 % interval."""
    low, high = wilson(float(hits.sum()), hits.size) if len(hits) == 1 else mean_interval(hits)
    return Share(mean=float(hits.mean()), low=low, high=high)


def _shares(labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    counts = confusion(labels, predictions, classes)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _confusion(seeds: Sequence[Sequence[NDArray[np.float64]]], classes: int) -> Matrix:
    if classes > LARGEST_MATRIX:
        return []
    mean: Matrix = np.mean([np.mean(same, axis=0) for same in seeds], axis=0).tolist()
    return mean
