"""A network that several workers compute: worker 0's, whose calls the others follow, and what these do."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit
from job.core.sampling import StepPlan
from job.engines import Network, SplitName, Tensors
from job.workers.crew import SHARED, Call, Crew, Leader, gone

SPLITS: tuple[SplitName, ...] = ("train", "test")


class SharedNetwork(Network):
    """Worker 0's, as the training loop sees it.  Each call is announced, then done by all."""

    def __init__(self, network: Network, leader: Leader, hosts: list[str]) -> None:
        self._network, self._leader, self._crew, self._hosts = network, leader, leader.crew, hosts
        self.workers = self._crew.place.workers
        self.parameters, self.averages, self.optimizer_slots = network.parameters, network.averages, network.optimizer_slots
        self._step = 0

    def place(self, split: SplitName, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        self._network.place(split, images, labels)

    def load(self, weights: Tensors, slots: Tensors) -> None:
        self._network.load(weights, slots)
        with self._leader.turn(Call.LOAD):
            for _, array in chain(self._network.weights(), self._network.slots()):
                self._crew.spread(array)

    def step(self, plan: StepPlan, *, rate: float, number: int) -> None:
        self._step = number
        with self._leader.turn(Call.STEP, number):
            self._network.step(plan, rate=rate, number=number)

    def observe(self, plan: StepPlan) -> Tensors:
        raise NotImplementedError

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        with self._leader.turn(Call.READ):
            return self._network.read()

    def logits(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        with self._leader.turn(Call.LOGITS, SPLITS.index(split)):
            return shared_logits(self._network, self._crew, split, indices)

    def export(self, path: Path) -> None:
        self._network.export(path)

    def weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The beginning of a checkpoint: raises JobError (71 or 75) where the workers' weights differ."""
        with self._leader.turn(Call.DIGESTS):
            self._crew.compare(digest(self._network), self._hosts, self._step)
        yield from self._network.weights()

    def slots(self) -> Iterator[tuple[str, NDArray[Any]]]:
        yield from self._network.slots()


def follow(
    network: Network, crew: Crew, batch: int, hosts: list[str], name: Callable[[str], None], take_step: Callable[[int], None]
) -> Exit:
    """What another worker than 0 does: what that announces, until it ends.  Returns the exit code.  Raises JobError (71, 75).

    `batch`: images of a batch.  `name` gets the name of the attempt.  `take_step` takes the step of a number, from 1."""
    step = 0
    while True:
        call, argument = crew.agree()
        match call:
            case Call.NOTHING:
                pass
            case Call.ATTEMPT:
                name(crew.gather_texts("")[0])
            case Call.LOAD:
                weights = [(name, crew.spread(array)) for name, array in network.weights()]
                network.load(weights, [(name, crew.spread(array)) for name, array in network.slots()])
            case Call.STEP:
                step = argument
                take_step(step)
            case Call.READ:
                network.read()
            case Call.LOGITS:
                shared_logits(network, crew, SPLITS[argument], np.zeros(batch * crew.place.workers, np.int64))
            case Call.DIGESTS:
                crew.compare(digest(network), hosts, step)
            case Call.END if argument in SHARED:
                crew.exchange.close()
                return Exit(argument)
            case Call.END:
                raise gone(f"worker 0 ended with {argument}.", crew.place.rank)


def shared_logits(network: Network, crew: Crew, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """(workers · B, classes) of worker 0's `indices`, a batch of B from each worker."""
    mine = crew.spread(indices).reshape(crew.place.workers, -1)[crew.place.rank]
    own = network.logits(split, mine)
    return crew.gather(own.reshape(-1).view(np.int32)).view(np.float32).reshape(len(indices), -1)


def digest(network: Network) -> bytes:
    """SHA-256 of weights and optimiser state."""
    found = hashlib.sha256()
    for _, array in chain(network.weights(), network.slots()):
        found.update(np.ascontiguousarray(array).data)
    return found.digest()
