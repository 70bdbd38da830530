"""Rounds of training: each from the same initial state, the same steps, so each must leave the same bits after every step."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.acceptance.locate import first_difference, first_operation
from job.core.acceptance_records import Deviation, Mode, ModeResult, Operation, StepSums, TensorDigests
from job.core.architecture import Architecture
from job.core.initial import initial_weights
from job.core.recipe import Precision, Recipe
from job.core.sampling import StepPlan, permutation, plan, steps_per_epoch
from job.core.schedule import learning_rate
from job.data.dataset import Dataset
from job.engines import Engine
from job.engines.probe import Probe

INTERVALS = 10
"""of a round"""
RETRIES = 3
"""of a step under a trace"""
NAMED_DEVIATIONS = 10
MODES: tuple[Mode, ...] = ("bf16", "tf32", "fp32")
PRECISIONS: dict[Mode, Precision] = {"bf16": "bf16", "tf32": "fp32", "fp32": "fp32"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a round left."""

    losses: NDArray[np.float64]
    """(steps,)"""
    sums: NDArray[np.uint64]
    """(steps, tensors), as `Probe.checksums`"""
    seconds: float
    """of its steps"""

    @property
    def key(self) -> bytes:
        """Equal for rounds that are."""
        return " ".join(map(float.hex, self.losses.tolist())).encode() + self.sums.tobytes()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a round computes."""

    recipe: Recipe
    seed: int
    steps: int
    traced: int
    """step whose operations are recorded, from 1"""
    data: Dataset

    @property
    def interval(self) -> int:
        """Steps after which the host reads."""
        return -(-self.steps // INTERVALS)

    @cached_property
    def architecture(self) -> Architecture:
        return self.recipe.architecture(len(self.data.classes))

    @cached_property
    def initial(self) -> list[tuple[str, NDArray[np.float32]]]:
        """The weights from which every round starts, in host memory."""
        return list(initial_weights(self.recipe, self.architecture, self.seed))

    def plans(self) -> Iterator[StepPlan]:
        """The real plan of each step."""
        count = len(self.data.train)
        per_epoch = steps_per_epoch(count, self.recipe.batch_size)
        for step in range(self.steps):
            epoch, within = divmod(step, per_epoch)
            yield plan(self.recipe, self.architecture, self.seed, permutation(self.seed, epoch, count), epoch=epoch, step=within)


class Rounds:
    """All rounds of one precision.  `sign` is called whenever the device has answered."""

    def __init__(self, engine: Engine, probe: Probe, work: Work, mode: Mode, sign: Callable[[str], None]) -> None:
        self.mode, self._work, self._probe, self._sign = mode, work, probe, sign
        recipe = work.recipe.with_values({"precision": PRECISIONS[mode]})
        architecture = work.architecture
        self._network = engine.network(recipe, architecture)
        self._network.place("train", work.data.train.images, work.data.train.labels)
        self._checksums = probe.checksums(self._network)
        self._plans = list(work.plans())
        self._rates = [learning_rate(recipe, step, work.steps) for step in range(work.steps)]
        slots = [f"slots/{slot}/{name}" for slot in recipe.slots for name in architecture.parameter_shapes]
        self.names = [*(f"weights/{name}" for name in architecture.parameter_shapes), *slots]
        self._outcomes: dict[bytes, Outcome] = {}
        """one of each kind; the first ones"""
        self._rounds: list[bytes] = []
        """digest of each round's key"""
        self._speeds: list[float] = []
        self._operations: list[Operation] = []
        self._state = ""

    @property
    def done(self) -> int:
        return len(self._rounds)

    def take(self) -> None:
        """One round more."""
        self._probe.tf32(self.mode == "tf32")
        if not self._rounds:
            self._operations = self._trace(self._work.traced)
        outcome = self._train(self._work.steps)
        key = hashlib.sha256(outcome.key).digest()
        if not self._rounds:
            self._state = self._state_digest()
        self._rounds.append(key)
        self._speeds.append(self._work.steps * self._work.recipe.batch_size / outcome.seconds)
        if key in self._outcomes or len(self._outcomes) <= NAMED_DEVIATIONS:
            self._outcomes.setdefault(key, outcome)

    def _train(self, steps: int) -> Outcome:
        """The first steps of a round."""
        network, interval = self._network, self._work.interval
        network.load(self._work.initial, ())
        losses, sums, taken = [], [], []
        begun = time.perf_counter()
        for step in range(steps):
            network.step(self._plans[step], rate=self._rates[step], number=step + 1)
            taken.append(self._checksums())
            if (step + 1) % interval == 0 or step + 1 == steps:
                losses.append(network.read()[0])
                sums.append(self._probe.read_checksums(taken))
                taken.clear()
                self._sign(f"{self.mode}, round {self.done + 1}, step {step + 1}")
        seconds = time.perf_counter() - begun
        return Outcome(losses=np.concatenate(losses), sums=np.concatenate(sums), seconds=seconds)

    def _trace(self, step: int) -> list[Operation]:
        """Digests of what a step (from 1) computes, in that order, when those before it were taken."""
        if step > 1:
            self._train(step - 1)
        else:
            self._network.load(self._work.initial, ())
        observed = self._network.observe(self._plans[step - 1])
        found: list[Operation] = [{"name": name, "digest": hashlib.sha256(array.tobytes()).hexdigest()[:16]} for name, array in observed]
        gradients = [one for one in found if one["name"].startswith("gradients/")]
        return [*found[: len(found) - len(gradients)], *reversed(gradients)]  # which come from the last layer

    def _state_digest(self) -> str:
        digest = hashlib.sha256()
        for tensors in (self._network.weights(), self._network.slots()):
            for _, array in tensors:
                digest.update(array.tobytes())
        return digest.hexdigest()

    def result(self) -> tuple[ModeResult, StepSums]:
        """Of at least one round."""
        most = max(self._outcomes, key=self._rounds.count)
        reference = self._outcomes[most]
        tensors = digests(self.names, reference, self._work.interval)
        last = float(reference.losses[-1])
        speeds = self._speeds[1:] or self._speeds
        found: ModeResult = {
            "mode": self.mode,
            "rounds": self.done,
            "steps": self._work.steps,
            "interval": self._work.interval,
            "digest": hashlib.sha256("".join(d for tensor in tensors for d in tensor["intervals"]).encode()).hexdigest(),
            "state_sha256": self._state,
            "tensors": tensors,
            "traced": self._work.traced,
            "operations": self._operations,
            "deviations": [*self._deviations(most)],
            "deviant_rounds": sum(key != most for key in self._rounds),
            "last_loss": last if np.isfinite(last) else None,
            "images_per_second": {"median": float(np.median(speeds)), "least": min(speeds), "greatest": max(speeds)},
        }
        return found, step_sums(self.mode, self.names, reference)

    def _deviations(self, most: bytes) -> Iterator[Deviation]:
        """Of each kind of outcome but that of most rounds, its first round."""
        self._probe.tf32(self.mode == "tf32")
        reference = step_sums(self.mode, self.names, self._outcomes[most])
        for key, outcome in self._outcomes.items():
            if key != most:
                place = first_difference(step_sums(self.mode, self.names, outcome), reference)
                assert place is not None
                operation = self._operation_of(place.step)
                yield {
                    "round": self._rounds.index(key) + 1,
                    "step": place.step,
                    "place": place.place,
                    "tensor": operation or place.tensor,
                    "tensors": place.tensors,
                    "again": bool(operation),
                }

    def _operation_of(self, step: int) -> str:
        """The operation that gives other numbers when the step is taken again, or the traced one; "" where none does."""
        if now := first_operation(self._trace(self._work.traced), self._operations):
            return now
        first, *others = (self._trace(step) for _ in range(RETRIES))
        return next(filter(None, (first_operation(other, first) for other in others)), "")


def step_sums(mode: Mode, names: list[str], outcome: Outcome) -> StepSums:
    """For steps.json."""
    return {
        "mode": mode,
        "losses": [float(loss).hex() for loss in outcome.losses],
        "names": names,
        "sums": [[f"{word:x}" for word in row] for row in outcome.sums.tolist()],
    }


def digests(names: list[str], outcome: Outcome, interval: int) -> list[TensorDigests]:
    """For the verdict."""

    def cut(column: NDArray[Any]) -> list[str]:
        parts = (column[start : start + interval] for start in range(0, len(column), interval))
        return [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()[:16] for part in parts]

    columns = {"loss": outcome.losses, **dict(zip(names, outcome.sums.T, strict=True))}
    return [{"name": name, "intervals": cut(column)} for name, column in columns.items()]
