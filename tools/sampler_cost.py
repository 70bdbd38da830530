"""Does the resource log slow the training down?  Paired runs of the same steps with and without it, taking turns.

python -m tools.sampler_cost [ENGINE [PAIRS]]      torch and 40 pairs: about six minutes
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sampling import permutation, plan
from job.engines import open_engine
from job.telemetry.sampler import Sampler

RECIPE = Recipe(name="cost", image_size=64, width=0.0625, batch_size=64, precision="fp32")
IMAGES = 2_000
SECONDS = 2.0
"""of each half of a pair"""

Speeds = tuple[float, float]
"""images a second by the clock and by CPU time, which neighbours on the machine disturb less"""


def main() -> None:
    name, count = (*sys.argv[1:], *("torch", "40")[len(sys.argv) - 1 :])[:2]
    architecture = RECIPE.architecture()
    network = open_engine(name, device="auto", threads=1).network(RECIPE, architecture)
    generator = np.random.Generator(np.random.PCG64(0))
    images, labels = generator.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8), (np.arange(IMAGES) % 10).astype(np.uint8)
    network.place("train", images, labels)
    network.load(initial_weights(RECIPE, architecture, 0), ())
    order = permutation(0, 0, IMAGES)
    taken = 0

    def speed() -> Speeds:
        nonlocal taken
        first, begun, worked = taken, time.monotonic(), time.process_time()
        while time.monotonic() - begun < SECONDS:
            for _ in range(5):
                network.step(plan(RECIPE, architecture, 0, order, epoch=0, step=taken % 10), rate=0.001, number=taken + 1)
                taken += 1
            network.read()
        images = (taken - first) * RECIPE.batch_size
        return images / (time.monotonic() - begun), images / (time.process_time() - worked)

    def with_sampler() -> Speeds:
        with tempfile.TemporaryDirectory() as folder:
            sampler = Sampler(Path(folder), deliver=lambda path: path.unlink(), say=lambda _: None)
            sampler.start()
            try:
                return speed()
            finally:
                sampler.stop()

    speed()  # the first steps compile
    pairs: dict[str, list[Speeds]] = {"with against without the sampler": [], "without against without: the noise": []}
    for number in range(int(count)):
        for (what, found), other in zip(pairs.items(), (with_sampler, speed), strict=True):
            first, second = (other(), speed()) if number % 2 else (speed(), other())[::-1]
            found.append((100 * (first[0] / second[0] - 1), 100 * (first[1] / second[1] - 1)))
            print(f"{number + 1:3d}  {what}: {found[-1][0]:+.2f} % by the clock, {found[-1][1]:+.2f} % by CPU time", flush=True)
    for what, found in pairs.items():
        for unit, values in zip(("second", "second of CPU time, its own thread's included"), zip(*found, strict=True), strict=True):
            mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
            told = f"mean {mean:+.2f} ± {error:.2f} % (standard error of {len(values)} pairs), median {statistics.median(values):+.2f} %"
            print(f"{what}: images a {unit}: {told}")


if __name__ == "__main__":
    main()
