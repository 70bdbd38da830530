"""What a framework can say of its device beside training on it: the rate of matrix products, device time, kernels, memory."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable

from job.core.recipe import Precision
from job.engines import Engine

Kernels = list[tuple[str, float]]
"""(name, seconds on the device), the longest first"""


class Probe(ABC):
    """Measures the device of an engine that was started."""

    @abstractmethod
    def __init__(self, *, gpu: bool) -> None:
        """`gpu`: whether the engine is on one."""

    @abstractmethod
    def product(self, size: int, precision: Precision) -> Callable[[], object]:
        """A function that multiplies two (size, size) matrices: 2 · size³ operations by the library that the layers use."""

    @abstractmethod
    def seconds(self, run: Callable[[], object]) -> float:
        """That the device takes for what `run` gives it to do: between two events of a GPU where the framework has them, else by the
        clock, from before `run` until the device is done."""

    @abstractmethod
    def kernels(self, run: Callable[[], object]) -> Kernels:
        """What `run` spends the device's time on: kernels and copies on a GPU, operators on a CPU.  Empty where it cannot be told."""

    @abstractmethod
    def peak_gpu_memory(self) -> int | None:
        """Most bytes of the GPU's memory that tensors had in use; None without one."""


def open_probe(engine: Engine) -> Probe:
    """For an engine that was started."""
    probe: type[Probe] = importlib.import_module(f"job.engines.{engine.name}_probe").PROBE
    return probe(gpu=engine.environment()["device"] != "cpu")
