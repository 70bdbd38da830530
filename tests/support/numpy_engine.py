"""An engine in NumPy, for tests of all that is not arithmetic: a linear classifier that learns, in milliseconds.

It has all parameters of the architecture, so that checkpoints are like any other's, and trains the last layer on shrunk images.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.identity_records import Environment
from job.core.place import Place
from job.core.recipe import Precision, Recipe
from job.core.sampling import StepPlan
from job.engines import ALONE, Engine, Network, SplitName, Tensors
from job.engines.exchange import Exchange

Hook = Callable[["NumpyNetwork"], None]


def nothing(network: "NumpyNetwork") -> None:
    """The default of every hook."""


class NumpyEngine(Engine):
    """`before_step`, `before_logits` and `before_weights` are called where a test wants something to happen."""

    name = "numpy"

    def __init__(
        self, *, name: str = "numpy", before_step: Hook = nothing, before_logits: Hook = nothing, before_weights: Hook = nothing
    ) -> None:
        self.name = name  # type: ignore[misc]
        self.hooks = before_step, before_logits, before_weights
        self.threads = 0
        """that it was started with"""

    def start(self, threads: int) -> None:
        self.threads = threads

    def meet(self, threads: int, place: Place, shards: int, silence: float) -> Exchange:
        raise NotImplementedError

    def fault(self, error: Exception) -> None:
        """It has no device."""

    def resolve(self, precision: Precision) -> Precision:
        return "fp32"

    def environment(self) -> Environment:
        return {"engine": self.name, "device": "cpu", "cuda": None, "cudnn": None, "numpy": np.__version__}  # type: ignore[typeddict-item]

    def network(
        self, recipe: Recipe, architecture: Architecture, rate_factors: dict[str, float] | None = None, exchange: Exchange = ALONE
    ) -> "NumpyNetwork":
        return NumpyNetwork(recipe, architecture, self.hooks)


class NumpyNetwork(Network):
    def __init__(self, recipe: Recipe, architecture: Architecture, hooks: tuple[Hook, Hook, Hook]) -> None:
        self.recipe, self.classes = recipe, architecture.classes
        self.before_step, self.before_logits, self.before_weights = hooks
        self.parameters = {name: np.zeros(shape, np.float32) for name, shape in architecture.parameter_shapes.items()}
        self.momentum = {name: np.zeros_like(array) for name, array in self.parameters.items()}
        self.head = [f"{architecture.head.name}.weight", f"{architecture.head.name}.bias"]
        self.features = architecture.head.in_shape[0]
        self.data: dict[SplitName, tuple[NDArray[np.float32], NDArray[np.uint8]]] = {}
        self.outcomes: list[tuple[float, int]] = []
        self.number = 0
        """of the step that is taken or was taken last"""

    def place(self, split: SplitName, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        small = images[:, ::4, ::4].reshape(len(images), -1)[:, : self.features].astype(np.float32) / 255 - 0.5
        self.data[split] = (small, labels)

    def load(self, weights: Tensors, slots: Tensors) -> None:
        for name, array in weights:
            self.parameters[name][...] = array
        for array in self.momentum.values():
            array[...] = 0
        for name, array in slots:
            self.momentum[name.removeprefix("momentum/")][...] = array

    def step(self, plan: StepPlan, *, rate: float, number: int) -> None:
        self.number = number
        self.before_step(self)
        images, labels = (array[plan.indices] for array in self.data["train"])
        images = images * np.float32(plan.image_size / self.recipe.image_size)  # so that the size makes a difference
        logits = self._forward(images)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        error = odds / odds.sum(1, keepdims=True)
        loss = float(-np.log(error[np.arange(len(labels)), labels]).mean())
        self.outcomes.append((loss, int((logits.argmax(1) == labels).sum())))
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        padded = error.T @ images
        gradients = np.pad(padded, ((0, 0), (0, self.features - padded.shape[1]))), error.sum(0)
        for name, gradient in zip(self.head, gradients, strict=True):
            self.momentum[name][...] = self.recipe.momentum * self.momentum[name] + gradient
            self.parameters[name] -= np.float32(rate) * self.momentum[name]

    def observe(self, plan: StepPlan) -> Tensors:
        return ()

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        table, self.outcomes = self.outcomes, []
        return np.array([loss for loss, _ in table], np.float64), np.array([hits for _, hits in table], np.int64)

    def logits(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        self.before_logits(self)
        return self._forward(self.data[split][0][indices])

    def export(self, path: Path) -> None:
        raise NotImplementedError

    def weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        self.before_weights(self)
        yield from self.parameters.items()

    def slots(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, array in self.momentum.items():
            yield f"momentum/{name}", array

    def _forward(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        weight, bias = (self.parameters[name] for name in self.head)
        logits: NDArray[np.float32] = images @ weight[:, : images.shape[1]].T + bias
        return logits
