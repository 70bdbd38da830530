"""GPUs that did the same work on the same kind of device with the same software: what is right for one of them is right for all."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from job.core.acceptance_records import Mode, ModeResult, Verdict
from job.fleet.digests import Vote, vote
from job.fleet.figures import THROTTLED, figures_of, states_of
from job.fleet.outliers import Figure, Spread, comparisons, spread
from job.fleet.reading import Report

Verdicts = Mapping[str, Verdict]
"""name of a GPU → its verdict"""
NAMED = ("gpu", "engine")
"""facts by which a group is called"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """GPUs that must give the same bytes."""

    number: int
    """from 1, the largest first"""
    label: str
    """what tells it from the other groups"""
    facts: dict[str, str]
    """what its GPUs have in common"""
    gpus: tuple[str, ...]
    votes: tuple[Vote, ...]
    """one for each precision"""
    spreads: tuple[Spread, ...]
    """one for each figure"""
    states: Mapping[str, float]
    """medians of what a cause is seen by"""


def grouped(verdicts: Verdicts, reference: Report | None = None) -> list[Group]:
    """All groups; a GPU whose engine did not start is in none.  `reference`: one that is known to be good, which decides in its group."""
    members: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for name, verdict in verdicts.items():
        if verdict["group"]:
            members[_key(verdict)].append(name)
    ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    figures = [_by_figure({name: verdicts[name] for name in names}) for _, names in ordered]
    tests = comparisons([(figure, len(values)) for each in figures for figure, values in each.items()])
    labels = _labels([dict(key) for key, _ in ordered])
    good = None if reference is None or reference.verdict is None else (reference.name, reference.verdict)
    return [
        Group(
            number=number,
            label=label,
            facts=dict(key),
            gpus=tuple(names),
            votes=_votes({name: verdicts[name] for name in names}, good if good and _key(good[1]) == key else None),
            spreads=tuple(spread(figure, values, tests) for figure, values in each.items()),
            states=_medians([states_of(verdicts[name]) for name in names]),
        )
        for number, ((key, names), each, label) in enumerate(zip(ordered, figures, labels, strict=True), 1)
    ]


def _key(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """Everything that the numbers may depend on."""
    return (*sorted(verdict["group"].items()), *sorted((name, str(value)) for name, value in verdict["work"].items()))


def _labels(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """Of each group, its device and engine, and those facts in which the groups differ."""
    differ = [key for key in dict.fromkeys(key for each in facts for key in each) if len({each.get(key) for each in facts}) > 1]
    rest = [key for key in differ if key not in NAMED]
    return [", ".join([each.get(key, "?") for key in NAMED] + [f"{key} {each[key]}" for key in rest if key in each]) for each in facts]


def _votes(verdicts: Verdicts, reference: tuple[str, Verdict] | None) -> tuple[Vote, ...]:
    """Of the GPUs whose digests prove something."""
    results: dict[Mode, dict[str, ModeResult]] = defaultdict(dict)
    for name, verdict in verdicts.items():
        if verdict["reproducible"]:
            for result in verdict["modes"]:
                results[result["mode"]][name] = result
    right = {result["mode"]: result for result in reference[1]["modes"]} if reference else {}
    return tuple(vote(mode, each, (reference[0], right[mode]) if reference and mode in right else None) for mode, each in results.items())


def _by_figure(verdicts: Verdicts) -> dict[Figure, dict[str, float]]:
    """Figure → GPU → value."""
    found: dict[Figure, dict[str, float]] = defaultdict(dict)
    for name, verdict in verdicts.items():
        for figure, value in figures_of(verdict).items():
            found[figure][name] = value
    return found


def _medians(states: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Over all GPUs; a share of the time that one does not name is 0 there."""
    names = {name for each in states for name in each}
    return {name: median([each.get(name, 0.0) for each in states if name in each or name.startswith(THROTTLED)]) for name in names}
