"""One file per framework, and the handful of verbs that the training loop asks of either.

A framework is imported only here, by `load`, and only the one that was asked for: no process survives both.
"""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.recipe import Precision, Recipe
from job.core.records import Environment
from job.core.sampling import StepPlan

Tensors = Iterable[tuple[str, NDArray[Any]]]
"""(canonical name, array in canonical layout), in network order"""
SplitName = Literal["train", "test"]

ENGINES = ("torch", "tensorflow")
WATCHED = 8
"""images of the batch whose activations `Engine.observe` hands out"""


class Engine(ABC):
    """A device with a network on it.  Call `prepare` and `load` before the rest."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, *, device: str, threads: int) -> None:
        """Open `device` ("auto", "cpu", "cuda").  Raises JobError: 78 where there is no GPU, 71 where it does not work."""

    @abstractmethod
    def resolve(self, precision: Precision) -> Precision:
        """What "auto" means on this device."""

    @abstractmethod
    def environment(self) -> Environment:
        """Device and versions, for the record."""

    @abstractmethod
    def prepare(self, recipe: Recipe, architecture: Architecture, rate_factors: dict[str, float]) -> None:
        """Build the network.  `rate_factors` scales the learning rate of single parameters (default 1)."""

    @abstractmethod
    def place(self, split: SplitName, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Put a split on the device, once.  images (N, 32, 32, 3), labels (N,)."""

    @abstractmethod
    def load(self, weights: Tensors, slots: Tensors) -> None:
        """Overwrite all weights, and the optimiser's tensors ("momentum/features.0.weight"); no slots: zeros."""

    @abstractmethod
    def step(self, plan: StepPlan, *, rate: float, number: int) -> None:
        """One optimiser step, the `number`-th of the run (from 1).  Waits for nothing."""

    @abstractmethod
    def observe(self, plan: StepPlan) -> Tensors:
        """What a step of this plan computes from the present weights, without taking it, in canonical layout and one at a time, so that
        what is not asked for is not computed:

        `inputs` (B, 3, 32, 32) after crop and flip; for each dropout layer `masks/NAME` (B, features); `activations/NAME` of the first
        WATCHED images, from `normalize` and `resize` on; `logits` (B, classes); `gradients/NAME` of every parameter, not yet clipped.
        """

    @abstractmethod
    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(losses, hits) of the steps since the last read, in order; the one point where the host waits for the device."""

    @abstractmethod
    def logits(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, classes) without dropout and augmentation, for exactly `batch_size` indices."""

    @abstractmethod
    def weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every parameter, one at a time."""

    @abstractmethod
    def slots(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every optimiser tensor, one at a time."""


def load(name: str) -> Callable[..., Engine]:
    """The engine class `name`.  Raises JobError (78) where its framework is not installed."""
    if importlib.util.find_spec(name) is None:
        raise JobError(
            Exit.CONFIGURATION,
            f"--engine {name}: the package {name} is not installed here. Install it with "
            f"`pip install 'alexnet-job[{name}]'`, or use the image alexnet-{'tf' if name == 'tensorflow' else name}.",
        )
    engine: Callable[..., Engine] = importlib.import_module(f"job.engines.{name}_engine").ENGINE
    return engine


def installed() -> tuple[str, ...]:
    """The engines whose framework is installed, found without importing it."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)


def evaluate(
    engine: Engine, split: SplitName, indices: NDArray[np.int64], batch: int, stop: Callable[[], bool]
) -> NDArray[np.float32] | None:
    """(len(indices), classes) logits of the whole selection, in batches of one shape: the last is padded, the padding dropped.
    None where `stop` came true."""
    parts = []
    for start in range(0, len(indices), batch):
        if stop():
            return None
        chosen = indices[start : start + batch]
        parts.append(engine.logits(split, np.resize(chosen, batch))[: len(chosen)])
    return np.concatenate(parts)


def no_gpu(engine: str, found: str) -> JobError:
    return JobError(
        Exit.CONFIGURATION,
        f"--device cuda: {engine} sees no usable GPU ({found}). Expected an NVIDIA driver and at least one visible device: check "
        "`nvidia-smi`, `docker run --gpus all`, the Job's `nvidia.com/gpu` request and NVIDIA_VISIBLE_DEVICES; "
        "`--device cpu` trains without.",
    )


def broken_gpu(engine: str, error: Exception) -> JobError:
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    return JobError(
        Exit.DEVICE,
        f"{engine} sees a GPU, but a first kernel on it failed: {reason}. Another node may do; check the driver's version here.",
    )


NORMALIZATION: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Means and deviations of the red, green and blue channel, of pixel values from 0 to 1."""


def scratch(name: str) -> Path:
    """A cache folder for a framework, below /tmp, since a container's home may be read-only."""
    import tempfile

    return Path(tempfile.gettempdir()) / f"alexnet-{name}"
