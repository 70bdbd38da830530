"""`python -m tests.engines.hardware ENGINE CASE…`: what becomes of faults that hardware makes, in one engine.  Prints a JSON object, case →
a list of what happened in each draw.

A case is a key of CASES and a precision, as "flip in forward of features.3, bit 0/bf16".  Each draw trains STEPS steps with the fault
planted anew, at another element, channel or step, and is compared with a sound round of the same work.
"""

import json
import sys
from collections import defaultdict
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
from tests.support.planted.hardware import Fault, Planted, plant

SMALL = Recipe(batch_size=8, image_size=64, width=1 / 16, flip=False, learning_rate=0.003, clip_norm=0)
PIXELS = 3 * 32 * 32
STEPS, DRAWS = 12, 8
FIRST, LAST = 6, 10
"""calls of `Network.step` of a draw between which a fault that happens once happens"""
BITS = {
    "float32": {"lowest": 0, "middle": 12, "highest": 30},
    "bfloat16": {"lowest": 0, "middle": 3, "highest": 14},
}
"""of the number in which a tensor is kept: of the mantissa the lowest and one in its middle; of the exponent the highest, which makes a
number below 2 huge, and a greater one tiny"""
SPIKE_STEPS, SPIKE_DEVIATIONS = 5, 6.0
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
    """What|where|which bit → case."""
    conv, dense, parameter = "features.3", "classifier.4", "features.3.weight"
    once, largest, stuck, product = (
        "one bit of any number, once",
        "one bit of an image's largest number, once",
        "one bit of a channel, always 1",
        "one wrong product in a sum, once",
    )
    rows = [
        (once, "flip", place, name, 0)
        for place, name in (("forward", conv), ("forward", dense), ("backward", conv), ("gradient", parameter))
    ]
    rows += [(once, "flip", place, parameter, 0) for place in ("weights", "slots")]
    rows += [(largest, "flip", "forward", name, -1) for name in (conv, dense)]
    rows += [(stuck, "stuck", place, conv, 0) for place in ("forward", "backward")]
    found = {
        f"{what}|{place}, {name}|{bit}": Case(Fault(kind=kind, place=place, tensor=name, element=element), bit)  # type: ignore[arg-type]
        for what, kind, place, name, element in rows
        for bit in BITS["float32"]
    }
    for number, bit in ((0, "lowest"), (7, "highest")):
        found[f"{once}|data, the stored image|{bit}"] = Case(Fault(kind="flip", place="data", bit=number))
    for name in (conv, dense):
        found[f"{product}|forward, {name}|any"] = Case(Fault(kind="product", place="forward", tensor=name))
    return found


CASES = cases()


def work() -> Work:
    return Work(recipe=SMALL, seed=3, steps=STEPS, traced=1, data=digits())


class Bench:
    """One engine with its sound rounds."""

    def __init__(self, name: str) -> None:
        self.engine = open_engine(name, device="cpu", threads=1)
        self.module = import_module(f"job.engines.{name}_engine")
        self.probe = open_probe(self.engine)
        self._sound: dict[str, Any] = {}

    def rounds(self, precision: str) -> Rounds:
        """With images of its own: on a CPU the network uses the array itself."""
        return Rounds(self.engine, self.probe, work(), precision, lambda text: None)  # type: ignore[arg-type]

    def sound(self, precision: str) -> tuple[Any, Any, Any]:
        """(sums, losses, operations)."""
        if precision not in self._sound:
            rounds = self.rounds(precision)
            rounds.take()
            result, sums = rounds.result()
            self._sound[precision] = sums, [float.fromhex(loss) for loss in sums["losses"]], result["operations"]
        return self._sound[precision]  # type: ignore[no-any-return]

    def draws(self, cases: list[Case], precision: str) -> Iterator[list[Draw]]:
        """Of each of the cases, which differ in the bit only."""
        self.sound(precision)  # before anything is planted
        with planted(cases[0].fault, self.module) as fault:
            rounds = self.rounds(precision)
            for case in cases:
                found = []
                for number in range(DRAWS):
                    draw_anew(fault, case, precision, number)
                    if case.fault.place == "data":
                        rounds = self.rounds(precision)  # with sound images
                    found.append(self.draw(rounds, fault, precision))
                yield found

    def draw(self, rounds: Rounds, planted: Planted, precision: str) -> Draw:
        reference, losses, operations = self.sound(precision)
        outcome = rounds._train(STEPS)
        place = first_difference(step_sums(rounds.mode, rounds.names, outcome), reference)
        named = place.tensor if place else ""
        if place and planted.fault.kind == "stuck":
            named = first_operation(rounds._trace(1), operations) or named
        last = float(outcome.losses[-1])
        return {
            "at": planted.done[0] if planted.done else 0,
            "found": place.step if place else 0,
            "place": place.place if place else "",
            "tensor": named,
            "spike": spikes(outcome.losses.tolist()) > spikes(losses),
            "last_loss": last if np.isfinite(last) else None,
            "sound_loss": losses[-1],
        }


def draw_anew(planted: Planted, case: Case, precision: str, number: int) -> None:
    """Another element, channel and step.  A stored image is one that is used in that step or later: over a round of full length all are."""
    draw, fault = Random(f"{case} {number}"), case.fault
    step = draw.randint(FIRST, LAST)
    element = draw.randrange(1 << 30)
    if fault.place == "data":
        element = int(list(work().plans())[draw.randrange(step - 1, STEPS)].indices[number % SMALL.batch_size]) * PIXELS + element % PIXELS
    kept_as = "bfloat16" if precision == "bf16" and fault.place in ("forward", "backward") else "float32"
    planted.fault = replace(
        fault,
        bit=BITS[kept_as][case.bit] if case.bit else fault.bit,
        element=-draw.randint(1, SMALL.batch_size) if fault.element < 0 else element,
        channel=number,
        step=1 if fault.kind == "stuck" else step,
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
    wanted = sys.argv[2:] or [f"{name}/{precision}" for name in CASES for precision in ("bf16", "fp32")]
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for argument in wanted:
        name, _, precision = argument.rpartition("/")
        groups[name.rpartition("|")[0], precision].append(name)
    found = {}
    for (_, precision), names in groups.items():
        for name, draws in zip(names, bench.draws([CASES[name] for name in names], precision), strict=True):
            found[f"{name}/{precision}"] = draws
            print(name, precision, [draw["found"] - draw["at"] if draw["found"] else None for draw in draws], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
