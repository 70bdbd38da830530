"""Where one round first parted from another, from the checksums of every step: in which step, which part of it, at which tensor."""

from collections.abc import Sequence
from typing import NamedTuple

from job.core.acceptance_records import Operation, StepSums


class Place(NamedTuple):
    """As in `Deviation`."""

    step: int
    """from 1"""
    place: str
    tensor: str
    tensors: int


def first_difference(mine: StepSums, reference: StepSums) -> Place | None:
    """None where all steps are equal.  Both are of the same work.

    A step computes forward, backward, slots, weights.  A loss that parts while everything before was equal was wrong going forward; so
    were logits, if gradients of several layers part, the last one's among them, while the loss is equal once it is rounded.  Else the
    gradient of the last layer that parted was wrong first, since gradients come from the last layer; and weights whose slots are equal
    were wrong in the update alone."""
    names = reference["names"]
    for step, (loss, sums) in enumerate(zip(mine["losses"], mine["sums"], strict=True)):
        expected = reference["sums"][step]
        differing = [name for name, found, known in zip(names, sums, expected, strict=True) if found != known]
        if loss != reference["losses"][step]:
            return Place(step + 1, "forward", "loss", len(differing))
        if differing:
            return Place(step + 1, *_within(differing, names), len(differing))
    return None


def _within(differing: Sequence[str], names: Sequence[str]) -> tuple[str, str]:
    """(place, tensor) in a step whose loss was right."""
    parted = [name.rpartition("/")[2] for name in differing if name.startswith("slots/")]
    if not parted:
        return "update", differing[0]
    last_layer, layers = _layer(names[-1]), {_layer(name) for name in parted}
    if last_layer in layers and len(layers) > 1:
        return "forward", "logits"
    return "backward", f"gradients/{parted[-1]}"


def _layer(name: str) -> str:
    """Of a parameter, or of its slot."""
    return name.rpartition("/")[2].rpartition(".")[0]


def first_operation(mine: Sequence[Operation], reference: Sequence[Operation]) -> str:
    """Name of the first that differs, in the order of computation; "" where all are equal."""
    pairs = zip(mine, reference, strict=True)
    return next((found["name"] for found, known in pairs if found["digest"] != known["digest"]), "")
