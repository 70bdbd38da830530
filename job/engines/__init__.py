"""One file per framework, and the handful of verbs that the training loop asks of either.

A framework is imported only here, by `open_engine`, and only the one that was asked for: no process survives both.
"""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.identity_records import Environment
from job.core.place import Place
from job.core.recipe import Precision, Recipe
from job.core.sampling import StepPlan
from job.engines.exchange import Alone, Exchange

Tensors = Iterable[tuple[str, NDArray[Any]]]
"""(canonical name, array in canonical layout), in network order"""
SplitName = Literal["train", "test"]

ENGINES = ("torch", "tensorflow")
OBSERVED_IMAGES = 8
"""of the batch, whose activations `Network.observe` hands out"""
ALONE = Alone()


class Engine(ABC):
    """A framework on an opened device, on which networks are built."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, *, device: str, gpu: int = 0) -> None:
        """Find `device` ("auto", "cpu", "cuda"), the visible GPU with the number `gpu`.  Raises JobError: 71 or 78 where "cuda" is asked
        for and no GPU is seen (`job.engines.faults.no_gpu`), 78 where too few are."""

    @abstractmethod
    def start(self, threads: int) -> None:
        """Take so many CPU threads into use, once and before any network is made.  Raises JobError (71) where a first kernel fails."""

    @abstractmethod
    def meet(self, threads: int, place: Place, shards: int, silence: float) -> Exchange:
        """Start together with the other workers of a run.  One that is silent for `silence` seconds counts as gone.  Raises JobError: 75
        where they do not come, and as `start`."""

    @abstractmethod
    def fault(self, error: Exception) -> JobError | None:
        """What an error that came out of the framework says of the GPU (71).  None: it is not the GPU's; a lack of host memory is not."""

    @abstractmethod
    def resolve(self, precision: Precision) -> Precision:
        """What "auto" means on this device: bf16 on a GPU or CPU that computes in it, else fp32.  Any other precision stays."""

    @abstractmethod
    def environment(self) -> Environment:
        """Engine, device and versions, for the record; None where one does not apply."""

    @property
    def nondeterministic(self) -> list[str]:
        """Operations without a deterministic kernel that were used so far: none, where the framework refuses them."""
        return []

    @abstractmethod
    def network(
        self, recipe: Recipe, architecture: Architecture, rate_factors: Mapping[str, float] | None = None, exchange: Exchange = ALONE
    ) -> "Network":
        """A network and its optimiser on the device.  `recipe.precision` must be resolved.

        `rate_factors` scales the learning rate of single parameters, by canonical name (default: 1 for each).  A step adds up the gradients
        of the shards of `exchange`, those of the other workers as well."""


class Network(ABC):
    """A network and its optimiser on a device.  Its weights are undefined until `load`; a split can be used once it was placed.

    B is the recipe's batch size, of all workers together; `logits` takes B images for each of them.  Arrays come and go in canonical
    layout: images (N, C, H, W), weights OIHW and (out, in).  Weights and optimiser tensors are float64 where the precision is fp64, else
    float32.
    """

    parameters: Mapping[str, Any]
    """canonical name → the framework's own tensor, in network order"""
    averages: Mapping[str, Any]
    """the same of what evaluations use and `weights` gives: the moving averages with `ema_decay`, else the parameters themselves"""
    optimizer_slots: Mapping[str, Mapping[str, Any]]
    """slot → the same for the optimiser's tensors"""
    workers: int = 1
    """processes that compute each call together"""

    @abstractmethod
    def place(self, split: SplitName, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Put a split on the device, instead of one that is there: images (N, 32, 32, 3), values 0 to 255; labels (N,)."""

    @abstractmethod
    def load(self, weights: Tensors, slots: Tensors) -> None:
        """Overwrite the named weights, and all of the optimiser's tensors ("momentum/features.0.weight"): those not named become zeros, or
        of `trained` the weights.

        Raises KeyError for a name that the network does not have."""

    @abstractmethod
    def step(self, plan: StepPlan, *, rate: float, number: int) -> None:
        """One optimiser step on the training split at learning rate `rate`, the `number`-th of the run (from 1), on images of the plan's
        size.  Waits for nothing."""

    @abstractmethod
    def observe(self, plan: StepPlan) -> Tensors:
        """What a step of this plan computes from the present weights, without taking it, one at a time, so that what is not asked for is
        not computed:

        `inputs` (B, 3, 32, 32) after crop and flip; for each dropout layer `masks/NAME` (B, features), True where a feature is kept;
        `activations/NAME` of the first OBSERVED_IMAGES images, from `normalize` and `resize` on; `logits` (B, classes); `gradients/NAME` of
        every parameter, not yet clipped, computed by the operations of a step.  Numbers have the type of the weights.
        """

    @abstractmethod
    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(losses in nats, correct images of the batch) of the steps since the last read, each (steps,), in order; the one point where the
        host waits for the device."""

    @abstractmethod
    def logits(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(workers · B, classes) without dropout and augmentation, of exactly so many images of the split, at the recipe's `image_size`.
        Raises KeyError where it was not placed."""

    @abstractmethod
    def export(self, path: Path) -> None:
        """Write the network as ONNX: `images` (N, 32, 32, 3) uint8 → `logits` (N, classes), without dropout, in the type of the weights.

        Needs the packages of the extra `onnx`.  `recipe.precision` must not be bf16, for which few runtimes have kernels."""

    @abstractmethod
    def weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(canonical name, array) of every parameter, one at a time, in network order: what evaluations use."""

    @abstractmethod
    def slots(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """(slot/canonical name, array of the parameter's shape) of every optimiser tensor, one at a time."""


def tables(recipe: Recipe, architecture: Architecture) -> dict[int, Architecture]:
    """Each image size of the training, in order → the network for it; `architecture` is that for the recipe's `image_size`."""
    smaller = {size: recipe.architecture(architecture.classes, size) for size, _ in recipe.smaller_sizes}
    return {**smaller, recipe.image_size: architecture}


def open_engine(name: str, *, device: str, threads: int) -> Engine:
    """The engine `name`, ready for networks.  Raises JobError, as `find_engine` and `Engine.start`."""
    engine = find_engine(name, device=device)
    engine.start(threads)
    return engine


def find_engine(name: str, *, device: str, gpu: int = 0) -> Engine:
    """The engine `name` on `device`, not yet started.  Raises JobError: 78 where its framework is not installed, and as `Engine` does."""
    if importlib.util.find_spec(name) is None:
        raise JobError(
            Exit.CONFIGURATION,
            f"--engine {name}: the package {name} is not installed here. Install it with "
            f"`pip install 'alexnet-job[{name}]'`, or use the image alexnet-{'tf' if name == 'tensorflow' else name}.",
        )
    engine: type[Engine] = importlib.import_module(f"job.engines.{name}_engine").ENGINE
    return engine(device=device, gpu=gpu)


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Errors of the GPU that come out of the framework as JobError (71)."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        if fault := engine.fault(error):
            raise fault from error
        raise


def installed() -> tuple[str, ...]:
    """The engines whose framework is installed, found without importing it."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)


def evaluate(
    network: Network, split: SplitName, indices: NDArray[np.int64], batch: int, stop: Callable[[], bool]
) -> NDArray[np.float32] | None:
    """(len(indices), classes) logits of the whole selection, in batches of one shape: the last is padded, the padding dropped.
    None where `stop` came true."""
    parts = []
    for start in range(0, len(indices), batch):
        if stop():
            return None
        chosen = indices[start : start + batch]
        parts.append(network.logits(split, np.resize(chosen, batch))[: len(chosen)])
    return np.concatenate(parts)
