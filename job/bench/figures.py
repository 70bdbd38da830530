"""From turns to figures: medians with their spread, and ratios of turns that followed one another."""

import statistics
from collections.abc import Sequence
from typing import Any, TypedDict

from job.bench.machine import Machine
from job.core.identity_records import Environment
from job.core.resource_records import Spread


class EngineFigures(TypedDict):
    """Of one engine."""

    engine: str
    environment: Environment
    precision: str
    first_step: dict[str, float]
    """seconds from the start of the process: framework, network (with the images, on the device), step"""
    step_seconds: Spread
    """between events of a GPU, else by the clock"""
    wall_seconds: Spread
    """of a step by the clock, until the host has read its loss"""
    cpu_seconds: Spread
    """CPU time of a step"""
    images_per_second: Spread
    flop_per_second: Spread
    """of the step: `Architecture.flop` for each image"""
    product_flop_per_second: Spread
    """of products of two large matrices in the same precision: the peak"""
    utilization: Spread | None
    """flop_per_second ÷ product_flop_per_second; None where the machine was not quiet"""
    peak_host_memory_bytes: int
    peak_gpu_memory_bytes: int | None
    kernels: list[tuple[str, float]]
    """(name, share of the device's time), the longest first"""
    gpu_idle: float | None
    """share of the time of profiled steps in which no kernel or copy ran; None without a GPU"""


class Report(TypedDict):
    """What `alexnet bench --json` prints."""

    machine: Machine
    others: float
    """share of the CPUs that others used meanwhile"""
    objection: str | None
    """why there are no ratios"""
    recipe: dict[str, Any]
    turns: int
    steps: int
    """of a turn"""
    engines: list[EngineFigures]


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Of the values of each turn; their median is the ratio."""
    return spread([a / b for a, b in zip(over, under, strict=True)])
