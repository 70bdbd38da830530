"""`python -m tests.engines.hardware ENGINE CASE…`: what becomes of faults that hardware makes, in one engine.  Prints a JSON object, case →
a list of what happened in each draw.

A case is a key of CASES and a precision, as "flip in forward of features.3, bit 0/bf16".  Each draw trains STEPS steps with the fault
planted anew, at another element, channel or step, and is compared with a sound round of the same work.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from random import Random
from typing import Any, TypedDict

import numpy as np

from job.acceptance.locate import first_difference, first_operation
from job.acceptance.rounds import Rounds, Work, step_sums
from job.core.recipe import Recipe
from job.data.sources import digits
from job.engines import open_engine
from job.engines.probe import open_probe
from tests.support.planted.hardware import HELD, Fault, Planted, plant

SMALL = Recipe(batch_size=8, image_size=64, width=1 / 8, flip=False, learning_rate=0.01, clip_norm=0)
STEPS, DRAWS = 24, 10
FIRST, LAST = 7, 16
"""calls of `Network.step` of a draw between which a fault that happens once happens"""
BITS = {
    "float32": {"lowest": 0, "middle": 12, "exponent": 25, "highest": 30},
    "bfloat16": {"lowest": 0, "middle": 3, "exponent": 9, "highest": 14},
}
"""of the number in which a tensor is kept: of the mantissa the lowest and one in its middle; of the exponent one that makes 16 times as
much, or as little, of the number; the highest, which makes it huge"""
SPIKE_STEPS, SPIKE_DEVIATIONS = 6, 6.0
"""a detector of spikes: a loss above the mean of so many steps before by so many of their standard deviations"""


@dataclass(frozen=True)
class Case:
    """A fault without the bit's number, element and step."""

    fault: Fault
    bit: str = ""
    """a key of BITS; "" where the fault draws its own, and of images the number itself"""


class Draw(TypedDict):
    """What happened."""

    at: int
    """first step in which the fault did something, from 1"""
    found: int
    """first step whose checksums or loss part from those of the sound round; 0: none does"""
    place: str
    tensor: str
    spike: bool
    """a detector of spikes or of numbers that are not finite would have seen something that it does not see in the sound round"""
    last_loss: float | None
    sound_loss: float


def cases() -> dict[str, Case]:
    found = {}
    for kind, what in (("flip", "one bit of one number, once"), ("stuck", "a bit of one channel stuck at 1")):
        for place, tensor in (
            ("forward", "features.3"),
            ("forward", "classifier.4"),
            ("backward", "features.3"),
            ("gradient", "features.3.weight"),
            ("weights", "features.3.weight"),
            ("slots", "features.3.weight"),
        ):
            if kind == "flip" or place not in HELD:
                for bit in BITS["float32"]:
                    found[f"{what}|{place}, {tensor}|{bit}"] = Case(Fault(kind=kind, place=place, tensor=tensor), bit)  # type: ignore[arg-type]
    for bit in (0, 7):
        found[f"one bit of one number, once|data, an image|{bit}"] = Case(Fault(kind="flip", place="data", bit=bit))
    for tensor in ("features.3", "classifier.4"):
        found[f"one wrong product of a sum, once|forward, {tensor}|drawn"] = Case(Fault(kind="product", place="forward", tensor=tensor))
    return found


CASES = cases()


class Bench:
    """One engine with its sound rounds."""

    def __init__(self, name: str) -> None:
        self.engine = open_engine(name, device="cpu", threads=1)
        self.module = import_module(f"job.engines.{name}_engine")
        self.probe = open_probe(self.engine)
        self.work = Work(recipe=SMALL, seed=3, steps=STEPS, data=digits())
        self._sound: dict[str, Any] = {}

    def rounds(self, precision: str) -> Rounds:
        return Rounds(self.engine, self.probe, self.work, precision, lambda text: None)  # type: ignore[arg-type]

    def sound(self, precision: str) -> tuple[Any, Any, Any]:
        """(sums, losses, operations)."""
        if precision not in self._sound:
            rounds = self.rounds(precision)
            rounds.take()
            result, sums = rounds.result()
            self._sound[precision] = sums, [float.fromhex(loss) for loss in sums["losses"]], result["operations"]
        return self._sound[precision]  # type: ignore[no-any-return]

    def draws(self, case: Case, precision: str) -> Iterator[Draw]:
        reference, losses, operations = self.sound(precision)
        with planted(case.fault, self.module) as fault:
            rounds = self.rounds(precision)
            for number in range(DRAWS):
                draw_anew(fault, case, precision, number)
                rounds._network.place("train", self.work.data.train.images, self.work.data.train.labels)
                outcome = rounds._train(STEPS)
                place = first_difference(step_sums(rounds.mode, rounds.names, outcome), reference)
                named = place.tensor if place else ""
                if place and case.fault.kind == "stuck":
                    named = first_operation(rounds._trace(1), operations) or named
                last = float(outcome.losses[-1])
                yield {
                    "at": fault.done[0] if fault.done else 0,
                    "found": place.step if place else 0,
                    "place": place.place if place else "",
                    "tensor": named,
                    "spike": spikes(outcome.losses.tolist()) > spikes(losses),
                    "last_loss": last if np.isfinite(last) else None,
                    "sound_loss": losses[-1],
                }


def draw_anew(planted: Planted, case: Case, precision: str, number: int) -> None:
    """Another element, channel and step."""
    draw, fault = Random(f"{case} {number}"), case.fault
    kept_as = "bfloat16" if precision == "bf16" and fault.place in ("forward", "backward") else "float32"
    planted.fault = replace(
        fault,
        bit=BITS[kept_as][case.bit] if case.bit else fault.bit,
        element=draw.randrange(1 << 30),
        channel=number,
        step=1 if fault.kind == "stuck" else draw.randint(FIRST, LAST),
    )
    planted.restart(number)


def spikes(losses: list[float]) -> set[int]:
    """Steps that a detector of spikes would report."""
    found = set()
    for step, loss in enumerate(losses):
        before = losses[max(0, step - SPIKE_STEPS) : step]
        if not np.isfinite(loss) or (len(before) == SPIKE_STEPS and loss > np.mean(before) + SPIKE_DEVIATIONS * np.std(before)):
            found.add(step)
    return found


@contextmanager
def planted(fault: Fault, module: Any) -> Iterator[Planted]:
    """In the engine's module, until the end."""
    network = next(value for name, value in vars(module).items() if name in ("TorchNetwork", "TensorflowNetwork"))
    kept = [
        (owner, name, getattr(owner, name))
        for owner, name in ((network, "step"), (network, "update"), (module, "apply"), (module, "walk"))
        if hasattr(owner, name)
    ]
    try:
        yield plant(fault, module)
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def main() -> None:
    bench = Bench(sys.argv[1])
    found = {}
    for argument in sys.argv[2:] or [f"{name}/{precision}" for name in CASES for precision in ("bf16", "fp32")]:
        name, _, precision = argument.rpartition("/")
        found[argument] = list(bench.draws(CASES[name], precision))
        print(argument, [draw["found"] - draw["at"] if draw["found"] else None for draw in found[argument]], file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
