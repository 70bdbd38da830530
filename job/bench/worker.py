"""`python -m job.bench.worker ENGINE DEVICE THREADS RECIPE`: a network of ours that takes turns (`job.bench.turns`); RECIPE as JSON.

It takes steps on random images, as many as CIFAR-10 has for training; multiplies matrices; and tells its kernels.
"""

import json
import sys
import time

import numpy as np

from job.bench.turns import Reply, Stages, replies, serve, timed
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sampling import permutation, plan
from job.engines import ALONE, Engine, Network, open_engine, translated
from job.engines.exchange import Exchange
from job.engines.probe import Probe, open_probe

IMAGES = 50_000
RATE = 0.001
"""learning rate"""
PRODUCT_SECONDS = 0.5
"""of a turn of matrix products, at least"""


class Worker:
    """A network whose first step is done."""

    def __init__(self, engine: Engine, recipe: Recipe, stages: Stages, exchange: Exchange = ALONE) -> None:
        self.recipe = recipe.with_values({"precision": engine.resolve(recipe.precision)})
        self.architecture = recipe.architecture()
        self.network = loaded(engine, self.recipe, exchange)
        self.order = permutation(0, 0, max(IMAGES, recipe.batch_size))
        stages.end("network")
        self.taken = 0
        self.take_steps(1)
        self.network.read()
        stages.end("step")
        self.probe: Probe = open_probe(engine)

    def take_steps(self, count: int) -> None:
        per_epoch = len(self.order) // self.recipe.batch_size
        for _ in range(count):
            chosen = plan(self.recipe, self.architecture, 0, self.order, epoch=0, step=self.taken % per_epoch)
            self.taken += 1
            self.network.step(chosen, rate=RATE, number=self.taken)

    def steps(self, count: int) -> Reply:
        """Optimiser steps, and what the clock says beside the device."""
        begun = time.perf_counter()
        turn = timed(lambda: self.take_steps(count), count, self.probe.seconds)
        self.network.read()
        return {**turn, "wall_seconds": (time.perf_counter() - begun) / count, "peak_gpu_memory_bytes": self.probe.peak_gpu_memory()}

    def products(self, size: int) -> Reply:
        """Products of two (size, size) matrices in the precision of the steps, and their operations per second."""
        product = self.probe.product(size, self.recipe.precision)
        product()
        once = self.probe.seconds(product)
        times = max(1, round(PRODUCT_SECONDS / once))
        turn = timed(lambda: [product() for _ in range(times)], times, self.probe.seconds)
        return {**turn, "flop_per_second": 2 * size**3 / turn["seconds"]}

    def kernels(self, count: int) -> Reply:
        """What so many steps spend the device's time on."""
        took = 0.0

        def run() -> None:
            nonlocal took
            begun = time.perf_counter()
            self.take_steps(count)
            self.network.read()
            took = time.perf_counter() - begun

        return {"kernels": self.probe.kernels(run), "seconds": took}


def loaded(engine: Engine, recipe: Recipe, exchange: Exchange) -> Network:
    """A network with initial weights and random images, on the device."""
    architecture = recipe.architecture()
    network = engine.network(recipe, architecture, exchange=exchange)
    generator = np.random.Generator(np.random.PCG64(0))
    count = max(IMAGES, recipe.batch_size)
    network.place("train", generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8))
    network.load(initial_weights(recipe, architecture, 0), ())
    return network


def main() -> None:
    name, device, threads, recipe = sys.argv[1:5]
    stages = Stages()
    with replies() as reply:
        engine = open_engine(name, device=device, threads=int(threads))
        stages.end("framework")
        with translated(engine):
            worker = Worker(engine, Recipe(**json.loads(recipe)), stages)
            reply({"environment": engine.environment(), "precision": worker.recipe.precision, "first_step": stages.seconds})
            serve({"steps": worker.steps, "products": worker.products, "kernels": worker.kernels}, reply)


if __name__ == "__main__":
    main()
