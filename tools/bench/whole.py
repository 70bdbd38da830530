"""Programs that train from their start to their end: what they get, and what they report."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.bench.turns import Reply
from job.data import sources
from job.telemetry.host import peak_memory

SKIPPED = 5
"""first steps that do not count: the framework prepares itself, and loaders have filled their queues meanwhile"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    precision: str
    image_size: int
    batch_size: int
    steps: int
    """that count"""
    threads: int
    data: str = ""
    """folder in CIFAR-10's binary layout; empty: none is needed"""


def images(settings: Settings) -> tuple[NDArray[Any], NDArray[Any]]:
    """(N, 32, 32, 3) and (N,): so many as the steps need."""
    train, count = sources.load(settings.data, cache=Path()).train, (settings.steps + SKIPPED) * settings.batch_size
    return train.images[:count].copy(), train.labels[:count].astype(np.int64)


def used(settings: Settings, ends: Sequence[float]) -> Reply:
    """What the program took: its speed, CPU time of all its processes, memory of its own.  `ends`: when each step was done."""
    counted = (len(ends) - SKIPPED) * settings.batch_size
    return taken((ends[-1] - ends[SKIPPED - 1]) / counted, len(ends) * settings.batch_size)


def taken(seconds_per_image: float, seen: int) -> Reply:
    """`seen`: images of the whole program."""
    cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"images_per_second": 1 / seconds_per_image, "cpu_seconds_per_image": cpu / seen, "peak_host_memory_bytes": peak_memory()}
