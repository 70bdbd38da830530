"""Engines in turn: each takes steps, and multiplies matrices for comparison, as often as there are turns."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from job.bench.figures import EngineFigures, Report, ratio, spread
from job.bench.machine import Neighbours, describe, objection
from job.bench.turns import Contestant, Reply
from job.core.recipe import Recipe
from job.engines.probe import Kernels

NAMED_KERNELS = 10
PROFILED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Setup:
    recipe: Recipe
    engines: tuple[str, ...]
    device: str
    threads: int
    turns: int
    steps: int
    """of a turn"""
    size: int
    """side of the matrices whose products are timed"""


def measure(setup: Setup, say: Callable[[str], None]) -> Report:
    """Raises JobError, as the engines do, and 70 where one of their processes ends."""
    machine = describe()
    with Neighbours() as neighbours, ExitStack() as started:
        workers = [started.enter_context(start(engine, setup)) for engine in setup.engines]
        rounds = []
        for number in range(1, setup.turns + 1):
            say(f"turn {number} of {setup.turns}")
            rounds.append([(worker.take("products", setup.size), worker.take("steps", setup.steps)) for worker in workers])
        profiles = [worker.take("kernels", min(setup.steps, PROFILED_STEPS)) for worker in workers]
    gpu = any(worker.facts["environment"]["device"] != "cpu" for worker in workers)
    why_not = objection(neighbours.share, gpu=gpu)
    engines = [
        figures(worker, setup, turns, profile, quiet=why_not is None)
        for worker, turns, profile in zip(workers, zip(*rounds, strict=True), profiles, strict=True)
    ]
    return {
        "machine": machine,
        "others": round(neighbours.share, 4),
        "objection": why_not,
        "recipe": setup.recipe.as_dict(),
        "turns": setup.turns,
        "steps": setup.steps,
        "engines": engines,
    }


def start(engine: str, setup: Setup) -> Contestant:
    words = [engine, setup.device, str(setup.threads), json.dumps(setup.recipe.as_dict())]
    return Contestant(engine, [sys.executable, "-m", "job.bench.worker", *words])


def figures(worker: Contestant, setup: Setup, turns: Sequence[tuple[Reply, Reply]], profile: Reply, *, quiet: bool) -> EngineFigures:
    """`turns`: what the products and the steps of each took."""
    products, steps = zip(*turns, strict=True)
    batch, flop = setup.recipe.batch_size, setup.recipe.architecture().flop
    rates = [batch * flop / turn["seconds"] for turn in steps]
    peaks = [turn["flop_per_second"] for turn in products]
    environment, kernels = worker.facts["environment"], Kernels(profile["kernels"])
    busy = sum(seconds for _, seconds in kernels)
    return {
        "engine": environment["engine"],
        "environment": environment,
        "precision": worker.facts["precision"],
        "first_step": worker.facts["first_step"],
        "step_seconds": spread([turn["seconds"] for turn in steps]),
        "wall_seconds": spread([turn["wall_seconds"] for turn in steps]),
        "cpu_seconds": spread([turn["cpu_seconds"] for turn in steps]),
        "images_per_second": spread([batch / turn["seconds"] for turn in steps]),
        "flop_per_second": spread(rates),
        "product_flop_per_second": spread(peaks),
        "utilization": ratio(rates, peaks) if quiet else None,
        "peak_host_memory_bytes": worker.peak_host_memory,
        "peak_gpu_memory_bytes": steps[-1]["peak_gpu_memory_bytes"],
        "kernels": [(name, seconds / busy) for name, seconds in kernels[:NAMED_KERNELS]],
        "gpu_idle": max(1 - busy / profile["seconds"], 0.0) if kernels and environment["device"] != "cpu" else None,
    }
