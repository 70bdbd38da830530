"""`python -m tools.before_after ENGINE FOLDER FOLDER …`: the training step of several checkouts of this repository, in turn.

Each checkout (`git worktree add ../before REVISION` makes one) works in a process of its own on the recipe `default`, by turns, a step or
a few at a time.  CPU time is what to compare on a machine that others use as well: with one thread it hardly depends on them.  Variables
of the environment may stand before a folder: `MALLOC_MMAP_MAX_=0,../before`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median

import numpy as np

IMAGES = 2048
WARM_UP = 2


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["torch", "tensorflow"])
    parser.add_argument("folders", nargs="*", metavar="FOLDER")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=1, help="of one turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    if options.folders:
        compare(options)
    else:
        take_turns(options)


def compare(options: Namespace) -> None:
    """Start a process in each folder, and print what each turn took."""
    given = [word for word in sys.argv[1:] if word not in options.folders]
    processes = []
    for word in options.folders:
        *settings, folder = word.split(",")
        variables = {"OMP_NUM_THREADS": str(options.threads), **dict(setting.split("=", 1) for setting in settings)}
        environment = {**os.environ, **variables, "PYTHONPATH": str(Path(folder).resolve())}
        command = [sys.executable, str(Path(__file__).resolve()), *given]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        processes.append(process)
        answer(process)
    rows = [[answer(process) for process in processes] for _ in range(options.turns)]
    print(f"{options.engine}, {options.precision}, batch {options.batch_size}, {options.image_size} px, {options.threads} thread(s)")
    print(f"{options.turns} turns of {options.steps} step(s); seconds of a step, median (lowest to highest); ratio to the first, by turns")
    for index, word in enumerate(options.folders):
        parts = []
        for what in ("CPU", "user", "wall"):
            seconds = [row[index][what] for row in rows]
            ratio = median(row[0][what] / row[index][what] for row in rows)
            parts.append(f"{what} {median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) × {ratio:.3f}")
        print(f"{word}: {'; '.join(parts)}; peak memory {rows[-1][index]['GB']:.2f} GB; loss {rows[-1][index]['loss']:.7f}")
    for process in processes:
        process.communicate()


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """What the process says to a new line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    found: dict[str, float] = json.loads(process.stdout.readline())
    return found


def take_turns(options: Namespace) -> None:
    """In a checkout's process: steps at every line that comes in."""
    from job import engines
    from job.core.initial import initial_weights
    from job.core.recipe import Recipe
    from job.core.sampling import permutation, plan

    recipe = Recipe(precision=options.precision, batch_size=options.batch_size, image_size=options.image_size)
    architecture = recipe.architecture()
    network = engines.open_engine(options.engine, device="cpu", threads=options.threads).network(recipe, architecture)
    generator = np.random.Generator(np.random.PCG64(0))
    images = generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    network.place("train", images, generator.integers(0, 10, IMAGES).astype(np.uint8))
    network.load(initial_weights(recipe, architecture, 0), ())
    order, number = permutation(0, 0, IMAGES), 0
    for turn, _ in enumerate(sys.stdin):
        steps = options.steps if turn else WARM_UP
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(steps):
            network.step(
                plan(recipe, architecture, 0, order, epoch=0, step=number % (IMAGES // recipe.batch_size)), rate=0.01, number=number + 1
            )
            number += 1
        losses, _ = network.read()
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        found = {
            "wall": wall / steps,
            "user": user / steps,
            "CPU": (user + system) / steps,
            "GB": after.ru_maxrss / 1e6,
            "loss": losses[-1],
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
