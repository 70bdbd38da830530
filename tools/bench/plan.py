"""How much is measured: at full size in less than 20 minutes on two cores, or quickly, to see whether it works."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from job.bench.machine import Machine
from job.core.exits import JobError
from job.engines.host import BF16_FLAGS

ENGINES = ("torch", "tensorflow")


@dataclass(frozen=True, kw_only=True)
class Plan:
    image_size: int = 224
    width: float = 1.0
    """of our networks; those of others have all channels"""
    batch_size: int = 128
    original_batch_size: int = 64
    turns: int = 4
    turn_seconds: float = 4.0
    rounds: int = 2
    """of whole programs"""
    program_seconds: float = 12.0
    """of training in a whole program, after its first steps"""
    least_steps: int = 6
    product_size: int = 4096
    images: int = 50_000
    test_images: int = 10_000
    first_steps: int = 2
    """times that the way to the first step is measured"""
    runs: int = 2_000
    engines: Sequence[str] = ENGINES
    precisions: Sequence[str] = ("fp32",)
    """the last one is that of the whole programs"""

    def steps(self, step_seconds: float, seconds: float) -> int:
        """That take so many seconds; an epoch has room for no more."""
        return max(self.least_steps, min(round(seconds / step_seconds), self.images // self.batch_size - 8))


def full(machine: Machine, engines: Sequence[str] = ENGINES) -> Plan:
    return Plan(engines=engines, precisions=precisions(machine))


def quick(engines: Sequence[str] = ENGINES) -> Plan:
    return Plan(
        image_size=64,
        width=0.0625,
        batch_size=16,
        original_batch_size=16,
        turns=2,
        turn_seconds=0.0,
        rounds=1,
        program_seconds=0.0,
        least_steps=2,
        product_size=256,
        images=1_000,
        test_images=32,
        first_steps=1,
        runs=40,
        engines=engines,
    )


def precisions(machine: Machine) -> Sequence[str]:
    """fp32, and bf16 where it is in the hardware: elsewhere it is many times slower."""
    return ("fp32", "bf16") if machine["gpus"] or BF16_FLAGS & {*machine["cpu_flags"]} else ("fp32",)


@contextmanager
def reported(say: Callable[[str], None]) -> Iterator[None]:
    """What fails is said and left out: it must not cost the figures of the rest."""
    try:
        yield
    except (JobError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        say(f"failed: {error}")


class Clock:
    """Seconds of this run, for the log."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def __str__(self) -> str:
        return f"{int(self.seconds) // 60:2d}:{int(self.seconds) % 60:02d}"
