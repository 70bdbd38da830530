"""What a framework can say of its device beside training on it: the rate of matrix products, device time, kernels, memory, checksums."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.recipe import Precision
from job.engines import Engine, Network

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
        """What `run` spends the device's time on: kernels and copies on a GPU, operators on a CPU."""

    @abstractmethod
    def peak_gpu_memory(self) -> int | None:
        """Most bytes of the GPU's memory that tensors had in use; None without one."""

    @abstractmethod
    def tf32(self, on: bool) -> bool:
        """Let products of float32 numbers be rounded to TF32 first, or not, in the whole process.  False: this device has no TF32."""

    @abstractmethod
    def checksums(self, network: Network) -> Callable[[], Any]:
        """A function that sums up, on the device, the 32-bit words of every weight and every slot as they are then, modulo 2⁶⁴.

        The order of a sum of whole numbers does not matter: equal tensors have equal sums, and one that differs in a single word never has.
        The function waits for nothing; `read_checksums` reads what it gave."""

    @abstractmethod
    def read_checksums(self, taken: Sequence[Any]) -> NDArray[np.uint64]:
        """(times, weights and slots in network order) of several calls of what `checksums` returned."""

    @abstractmethod
    def copies(self, size: int) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
        """Functions that copy `size` bytes from the host to the device, from there to the host, and add 1 to as many bytes of float32
        on the device, which reads `size` bytes and writes as many."""

    @abstractmethod
    def pattern(self, words: int, factor: int, value: int) -> Any:
        """(words,) 32-bit words on the device, word i being (i · factor) ^ value in 32 bits."""

    @abstractmethod
    def wrong_words(self, found: Any, factor: int, value: int) -> int:
        """How many words of a `pattern` are not, or no more, what they should be."""

    @abstractmethod
    def release(self) -> None:
        """Give memory of the device that no tensor uses back to the driver, where the framework can."""


def open_probe(engine: Engine) -> Probe:
    """For an engine that was started."""
    probe: type[Probe] = importlib.import_module(f"job.engines.{engine.name}_probe").PROBE
    return probe(gpu=engine.environment()["device"] != "cpu")
