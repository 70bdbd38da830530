"""Whose bytes are other than everybody else's, and where they part.

GPUs of one group did the same arithmetic in the same order, so in each precision one digest is right for all of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from job.core.acceptance_records import Mode, ModeResult


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Where the digests of a GPU leave the right ones."""

    mode: Mode
    step: int
    """steps done at the end of the first interval that differs"""
    tensor: str
    """first one, in network order, that differs there; losses last, since they only tell that something did"""
    tensors: int
    """that differ there"""
    of: int
    """that were compared"""
    traced: int
    """step whose operations were compared, from 1"""
    operation: str | None
    """first one that differs, as after a permanent fault; None: they were equal, or of another step"""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What the right digest of a group is in one precision, and who has it."""

    mode: Mode
    source: str
    """why it is the right one, or why there is none"""
    right: str | None = None
    """a GPU that has it, or the reference's name; None: there is none"""
    agree: tuple[str, ...] = ()
    partings: Mapping[str, Parting] = field(default_factory=dict)
    """GPU → where it leaves the right digest"""
    undecided: tuple[str, ...] = ()
    """GPUs that differ from one another, where no digest has a majority"""


def vote(mode: Mode, results: Mapping[str, ModeResult], reference: tuple[str, ModeResult] | None = None) -> Vote:
    """`results`: of each GPU of a group; `reference`: the name and the result of one that is known to be good."""
    if reference is not None:
        name, right = reference
        source = f"the reference {name}"
    else:
        count, name, source = _elected(results)
        if not count:
            differ = len({result["digest"] for result in results.values()}) > 1
            return Vote(mode=mode, source=source, undecided=tuple(results) if differ else ())
        right = results[name]
    deviants = {gpu: result for gpu, result in results.items() if result["digest"] != right["digest"]}
    return Vote(
        mode=mode,
        source=source,
        right=name,
        agree=tuple(gpu for gpu in results if gpu not in deviants),
        partings={gpu: parting(mode, right, result) for gpu, result in deviants.items()},
    )


def _elected(results: Mapping[str, ModeResult]) -> tuple[int, str, str]:
    """How many agree on the digest that more than half of the GPUs have (0: there is none), one that has it, and how that came about."""
    if len(results) < 2:
        return 0, "", "one GPU, which has nobody to differ from"
    digests = {gpu: result["digest"] for gpu, result in results.items()}
    digest, count = Counter(digests.values()).most_common(1)[0]
    if 2 * count <= len(results):
        most = f"at most {count} of {len(results)} agree" if count > 1 else f"no two of {len(results)} agree"
        return 0, "", f"no majority: {most}"
    return count, next(gpu for gpu, own in digests.items() if own == digest), f"the majority, {count} of {len(results)}"


def parting(mode: Mode, right: ModeResult, other: ModeResult) -> Parting:
    """Where two results whose digests differ part."""
    mine = {tensor["name"]: tensor["intervals"] for tensor in other["tensors"]}
    at = {tensor["name"]: _first_difference(tensor["intervals"], mine.get(tensor["name"], [])) for tensor in right["tensors"]}
    first = min(at.values(), default=0)
    names = [name for name, place in at.items() if place == first]
    return Parting(
        mode=mode,
        step=min((first + 1) * right["interval"], right["steps"]),
        tensor=next((name for name in names if name != "loss"), "loss"),
        tensors=len(names),
        of=len(right["tensors"]),
        traced=other["traced"],
        operation=_operation(right, other),
    )


def _first_difference(right: list[str], other: list[str]) -> int:
    """Number of the first interval that differs; that after the last where none does."""
    equal = [a == b for a, b in zip(right, other, strict=False)]
    return equal.index(False) if False in equal else len(equal)


def _operation(right: ModeResult, other: ModeResult) -> str | None:
    if right["traced"] != other["traced"]:
        return None
    digests = {operation["name"]: operation["digest"] for operation in other["operations"]}
    return next((one["name"] for one in right["operations"] if digests.get(one["name"], one["digest"]) != one["digest"]), None)
