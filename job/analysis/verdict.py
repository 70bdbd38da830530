"""The comparison in one plain sentence."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from job.analysis.formatting import p_text, percent, points, shortened
from job.analysis.statistics import LEVEL, Paired, Seeds


class Judged(Protocol):
    """What a sentence needs to know of a run."""

    @property
    def id(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def test_accuracy(self) -> float: ...


Sides = Mapping[str, Sequence[Judged]]


def verdict(
    runs: Sequence[Judged], sides: Sides, pairs: Mapping[str, Paired], seeds: Mapping[str, Seeds], unfair: Sequence[str], anyway: bool
) -> str:
    """`unfair` names what makes the comparison unfair; the verdict is withheld then, unless `anyway`."""
    if len(runs) == 1:
        return "One run: nothing to compare."
    if unfair and not anyway:
        return f"No verdict: the runs are not comparable, they differ in {shortened(unfair)}."
    prefix = f"Unfair comparison ({shortened(unfair)} differ): " if unfair else ""
    if not pairs:
        return prefix + "no paired test is possible, because the test images differ."
    if len(seeds) == 1:
        return prefix + seeds_sentence(sides, next(iter(seeds.values())))
    if seeds:
        return prefix + many_sentence({name: found.p for name, found in seeds.items()}, "sides", "t tests over seeds and images")
    if len(runs) == 2:
        return prefix + pair_sentence(runs[0], runs[1], next(iter(pairs.values())), same_side=len(sides) == 1)
    if len(sides) == 1:
        return prefix + one_side_sentence(sides)
    return prefix + many_sentence({name: found.p for name, found in pairs.items()}, "runs", "McNemar's test")


def pair_sentence(first: Judged, second: Judged, result: Paired, *, same_side: bool) -> str:
    shares = f"{percent(first.test_accuracy)} vs {percent(second.test_accuracy)}"
    detail = f"{shares}, {p_text(result.p)}, 95 % interval {points(result.low)} to {points(result.high)} points"
    if result.only_first + result.only_second == 0 and result.agreement == 1:
        return f"The runs are the same in every prediction ({detail})."
    if result.p >= LEVEL:
        return f"No difference can be seen: {detail}."
    better = second if result.difference > 0 else first
    caution = "both are the same engine and recipe, so this is what another seed does" if same_side else "one seed each, others may differ"
    return f"{better.id} ({better.engine}) is better: {detail}; {caution}."


def seeds_sentence(sides: Sides, found: Seeds) -> str:
    (first, runs), (second, others) = sides.items()
    shares = " vs ".join(percent(mean_accuracy(side)) for side in (runs, others))
    detail = (
        f"{shares} on average over {len(runs)} and {len(others)} seeds, {p_text(found.p)}, "
        f"95 % interval {points(found.low)} to {points(found.high)} points"
    )
    if found.p >= LEVEL:
        return f"No difference can be seen: {detail}."
    return f"{second if found.difference > 0 else first} is better: {detail}."


def one_side_sentence(sides: Sides) -> str:
    ((label, runs),) = sides.items()
    spread = float(np.std([run.test_accuracy for run in runs], ddof=1))
    average = f"{percent(mean_accuracy(runs))} on average, with a standard deviation of {100 * spread:.1f} points"
    return f"One side only ({label}, {len(runs)} seeds): {average}; nothing to compare it with."


def many_sentence(tests: Mapping[str, float], what: str, how: str) -> str:
    """Name of each pair → its p.  Holm's correction over all pairs (S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70)."""
    seen = []
    for rank, (name, p) in enumerate(sorted(tests.items(), key=lambda item: item[1])):
        if p >= LEVEL / (len(tests) - rank):
            break
        seen.append(name.replace(" | ", " and "))
    if not seen:
        return f"No difference can be seen in any of the {len(tests)} pairs of {what} ({how} with Holm's correction)."
    return f"{len(seen)} of {len(tests)} pairs of {what} differ ({how} with Holm's correction): {'; '.join(seen)}."


def mean_accuracy(runs: Sequence[Judged]) -> float:
    return float(np.mean([run.test_accuracy for run in runs]))
