"""Does the resource log slow the training down?  Paired runs of the same steps with and without it, taking turns.

python -m tests.sampler_cost [ENGINE [PAIRS]]      torch and 20 pairs: about three minutes
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from job import engines
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sampling import permutation, plan
from job.io.resources import Sampler

RECIPE = Recipe(name="cost", image_size=64, width=0.0625, batch_size=64, precision="fp32")
IMAGES = 2_000
SECONDS = 4.0
"""of each half of a pair"""


def main() -> None:
    name, pairs = (*sys.argv[1:], "torch", "20")[:2] if len(sys.argv) < 3 else sys.argv[1:3]
    engine, architecture = engines.load(name)(device="auto", threads=1), RECIPE.architecture()
    generator = np.random.Generator(np.random.PCG64(0))
    images, labels = generator.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8), (np.arange(IMAGES) % 10).astype(np.uint8)
    engine.prepare(RECIPE, architecture, {})
    engine.place("train", images, labels)
    engine.load(initial_weights(RECIPE, architecture, 0), ())
    order = permutation(0, 0, IMAGES)
    taken = 0

    def speed() -> float:
        """Images a second."""
        nonlocal taken
        begun, first = time.monotonic(), taken
        while time.monotonic() - begun < SECONDS:
            for _ in range(5):
                engine.step(plan(RECIPE, architecture, 0, order, epoch=0, step=taken % 10), rate=0.001, number=taken + 1)
                taken += 1
            engine.read()
        return (taken - first) * RECIPE.batch_size / (time.monotonic() - begun)

    def with_sampler(folder: Path) -> float:
        sampler = Sampler(folder, deliver=lambda path: path.unlink(), say=lambda _: None)
        sampler.start()
        try:
            return speed()
        finally:
            sampler.stop()

    speed()  # the first steps compile
    differences, controls = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(int(pairs)):
            runs = (with_sampler, lambda _: speed()) if number % 2 else (lambda _: speed(), with_sampler)
            first, second = (run(Path(folder)) for run in runs)
            sampled, bare = (first, second) if number % 2 else (second, first)
            differences.append(100 * (sampled / bare - 1))
            controls.append(100 * (speed() / speed() - 1))
            print(f"{number + 1:3d}  with {sampled:8.1f}  without {bare:8.1f} images/s  {differences[-1]:+.2f} %", flush=True)
    print(f"with against without the sampler: {_told(differences)}\nwithout against without, the noise: {_told(controls)}")


def _told(values: list[float]) -> str:
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    return f"mean {mean:+.2f} ± {error:.2f} % (standard error of {len(values)} pairs), median {statistics.median(values):+.2f} %"


if __name__ == "__main__":
    main()
