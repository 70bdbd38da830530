"""The comparison in a few plain sentences: what was seen, of what it speaks, and what it cannot tell."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from job.analysis.comparability import Difference
from job.analysis.evidence import Evidence, Side
from job.analysis.formatting import interval_text, listed, p_text, percent, points, shortened
from job.analysis.over_seeds import Seeds
from job.analysis.paired import Paired
from job.analysis.statistics import LEVEL, holm

SHORT = 60
"""characters up to which the values of a difference are told with it"""


def verdict(found: Evidence, *, anyway: bool = False) -> str:
    """It is withheld where the comparison is unfair, unless `anyway`."""
    unfair = [row for row in found.differences if not row.fair]
    if len(found.figures) == 1:
        return "One run: nothing to compare."
    if unfair and not anyway:
        return f"No verdict: the runs are not comparable, they differ in {shortened([row.what for row in unfair])}.{_why_mixed(unfair)}"
    prefix = f"Unfair comparison ({shortened([row.what for row in unfair])} differ{'s' if len(unfair) == 1 else ''}): " if unfair else ""
    return prefix + " ".join(part for part in (_reproducibility(found), _sentence(found)) if part)


def _why_mixed(unfair: Sequence[Difference]) -> str:
    return "".join(f" The engine: {row.why}." for row in unfair if row.what == "engine")


def _reproducibility(found: Evidence) -> str:
    """Our own promise, where it is broken."""
    if not found.irreproducible:
        return ""
    pairs = [f"{pair.replace(' | ', ' and ')} (they differ in {what})" for pair, what in found.irreproducible.items()]
    return (
        f"Not reproducible: {shortened(pairs)} are equal in all that is recorded, the seed included, and should be equal in every "
        "bit. This should not happen; look for the cause: a fault, or something that is not recorded, such as the model of the processor."
    )


def _sentence(found: Evidence) -> str:
    if not found.pairs:
        return "No paired test is possible, because the test images differ."
    if len(found.sides) == 1:
        return _one_side(found, next(iter(found.sides.values())))
    if len(found.sides) > 2:
        return _many(found)
    if found.seeds:
        return _two_sides(found, next(iter(found.seeds.values())))
    return _two_networks(found, *(side.runs[0] for side in found.sides.values()))


def _one_side(found: Evidence, side: Side) -> str:
    """Repetitions of one thing."""
    if len(side.runs) == 2:
        first, second = side.runs
        pair = found.pairs[f"{first} | {second}"]
        if len(side.seeds) == 2:
            alone = all(row.effect in ("repetition", "none") for row in found.differences)
            what = "another seed does" if alone else "these do together"
            return f"{_networks(found, first, second, pair)} Both are the same but for {_causes(found)}, so this is what {what}."
        if found.irreproducible:
            return _networks(found, first, second, pair)
        if not _causes(found):
            return f"Reproduced: {first} and {second} are equal in all that is recorded, seed included, and in every bit of their results."
        return f"{_networks(found, first, second, pair)} With the same seed, the possible cause of any difference is {_causes(found)}."
    if side.deviation is None:
        causes = _causes(found)
        return f"One side only ({side.label}), with one seed in {len(side.runs)} runs" + (f", which differ in {causes}." if causes else ".")
    return (
        f"One side only ({side.label}, {len(side.seeds)} seeds): {percent(side.accuracy.mean)} on average, with a standard deviation of "
        f"{100 * side.deviation:.2f} points between seeds; nothing to compare it with."
    )


def _two_networks(found: Evidence, first: str, second: str) -> str:
    """One seed on either side: McNemar's test speaks of these two networks, and nothing does of the sides."""
    pair = found.pairs[f"{first} | {second}"]
    seeds = len({seed for side in found.sides.values() for seed in side.seeds})
    besides = "" if seeds == 1 else " They have different seeds as well."
    several = any(len(side.runs) > 1 for side in found.sides.values())
    chosen = " (Of several runs with the same seed, this is the first.)" if several else ""
    return (
        f"{_networks(found, first, second, pair)}{chosen} What differs: {_causes(found, seeds=False)}.{besides} One seed on each "
        "side cannot tell what that does: another seed alone may move the accuracy as far. Several seeds on a side would tell."
    )


def _networks(found: Evidence, first: str, second: str, pair: Paired) -> str:
    accuracies = {run.id: run.test_accuracy for run in found.figures}
    shares = f"{percent(accuracies[first])} vs {percent(accuracies[second])}"
    if not pair.only_first + pair.only_second:
        same = "The two runs are the same in every prediction" if pair.agreement == 1 else "The two runs have the same images right"
        return f"{same}: {shares}, and on other images at most ±{points(pair.high, sign=False)} points apart.{_equal(pair, 'two networks')}"
    detail = f"{shares}, {_difference(pair)}"
    if pair.p >= LEVEL:
        return f"No difference can be seen between these two networks: {detail}. {_detectable(pair)}{_equal(pair, 'two networks')}"
    better = second if pair.difference > 0 else first
    engine = next(run.engine for run in found.figures if run.id == better)
    return f"Of these two networks, {better} ({engine}) is better: {detail}.{_equal(pair, 'two networks')}"


def _two_sides(found: Evidence, test: Seeds) -> str:
    first, second = found.sides.values()
    detail = (
        f"{percent(first.accuracy.mean)} vs {percent(second.accuracy.mean)} on average over {len(first.seeds)} and {len(second.seeds)} "
        f"seeds, {_difference(test)}"
    )
    caution = _borrowed([side for side in (first, second) if len(side.seeds) == 1])
    rest = f"{_equal(test, 'sides')}{caution}"
    if test.p >= LEVEL:
        return f"No difference can be seen between {first.label} and {second.label}: {detail}. {_detectable(test)}{rest}"
    return f"{second.label if test.difference > 0 else first.label} is better: {detail}.{rest}"


def _borrowed(single: Sequence[Side]) -> str:
    if not single:
        return ""
    labels, one = listed([side.label for side in single]), len(single) == 1
    return (
        f" {labels} {'has' if one else 'have'} one seed, which cannot tell how far other seeds of {'it' if one else 'them'} spread: as "
        "far as those of the others is assumed."
    )


def _many(found: Evidence) -> str:
    """Every two sides, with Holm's correction for the number of tests.  Without a second seed anywhere, of the networks."""
    labels = list(found.sides)
    tests: Mapping[str, Seeds] | Mapping[str, Paired] = found.seeds
    if not found.seeds:
        runs = {label: side.runs[0] for label, side in found.sides.items()}
        tests = {f"{a} | {b}": found.pairs[f"{runs[a]} | {runs[b]}"] for a, b in combinations(labels, 2)}
    what = "sides" if found.seeds else "networks"
    how = ("t tests over seeds and images" if found.seeds else "McNemar's test") + ", with Holm's correction"
    seen = [name.replace(" | ", " and ") for name in holm({name: test.p for name, test in tests.items()})]
    if seen:
        sentence = f"{len(seen)} of {len(tests)} pairs of {what} differ ({how}): {'; '.join(seen)}."
    else:
        sentence = f"No difference can be seen in any of the {len(tests)} pairs of {what} ({how})."
    if found.seeds:
        sentence += _borrowed([side for side in found.sides.values() if len(side.seeds) == 1])
    else:
        sentence += " One seed on each side cannot tell whether the sides differ: another seed alone may move the accuracy as far."
    if found.margin is None:
        return sentence
    equal = holm({name: test.equivalence.p for name, test in tests.items() if test.equivalence})
    within = _within(found.margin)
    named = f": {'; '.join(name.replace(' | ', ' and ') for name in equal)}" if equal else ""
    return f"{sentence} Equal {within}: {len(equal)} of {len(tests)} pairs (two one-sided tests, with Holm's correction){named}."


def _difference(test: Paired | Seeds) -> str:
    """With its direction, by name."""
    low, high = interval_text(test.low, test.high)
    return f"{test.direction} {points(test.difference)} points (95 % interval {low} to {high}), {p_text(test.p)}"


def _detectable(test: Paired | Seeds) -> str:
    """What 'no difference' is worth."""
    return f"A difference of {points(test.detectable, sign=False)} points would have been seen with 80 % power."


def _equal(test: Paired | Seeds, what: str) -> str:
    if not (found := test.equivalence):
        return ""
    low, high = interval_text(found.low, found.high)
    within = _within(found.margin)
    if found.equal:
        return f" The {what} are equal {within}: the 90 % interval, {low} to {high}, lies inside (two one-sided tests, {p_text(found.p)})."
    return f" The {what} are not shown to be equal {within}: the 90 % interval, {low} to {high}, reaches beyond."


def _within(margin: float) -> str:
    return f"within {100 * margin:g} point{'' if margin == 0.01 else 's'}"


def _causes(found: Evidence, *, seeds: bool = True) -> str:
    """What may have made the difference, by name, and with its values where these are short."""
    named = []
    for row in found.differences:
        if row.effect == "possible cause" or (seeds and row.effect == "repetition"):
            values = " vs ".join(dict.fromkeys(row.values))
            named.append(f"{row.what} ({values})" if len(values) <= SHORT else row.what)
    return listed(named)
