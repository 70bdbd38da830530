"""`python -m tools.stall torch|tensorflow`: seconds that writing a checkpoint of the default network takes, again and again.

Beside it, what as much memory takes to be touched: a virtual machine may have to get pages from its host first.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from job import engines
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.runs.statefile import state_bytes, write_state

TIMES = 6


def main(name: str) -> None:
    recipe = Recipe(precision="fp32")
    architecture = recipe.architecture()
    print(f"touching memory: {seconds(lambda: np.ones(state_bytes(recipe, architecture), np.uint8))}")
    network = engines.open_engine(name, device="cpu", threads=2).network(recipe, architecture)
    network.load(initial_weights(recipe, architecture, 0), ())

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_state(Path(folder), recipe, architecture, network.weights(), network.slots())

    print(f"{name}, writing a checkpoint: {seconds(write)}")


def seconds(action: Callable[[], object]) -> str:
    """Of each time, in order."""
    found = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        action()
        found.append(f"{time.perf_counter() - begun:.2f}")
    return f"{', '.join(found)} s"


if __name__ == "__main__":
    main(sys.argv[1])
