"""What does not train: `alexnet runs` over thousands of runs, and the bytes of a checkpoint on their way."""

import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.runs.tensorfile import write_tensors
from job.storage.files import encoded, sha256
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.servers import Server, weed
from tools.bench.plan import Plan

UNFINISHED = 20
"""every so many runs have no summary"""
WORKERS = max(2, len(os.sched_getaffinity(0)))

Found = dict[str, Any]


def measure(plan: Plan, say: Callable[[str], None]) -> Found:
    say("stores")
    return {"runs": many_runs(plan), "checkpoint": checkpoints(plan)}


def many_runs(plan: Plan) -> Found:
    """`alexnet runs` over so many runs, from the start of the command to its last line: the quickest of three tries."""
    with weed() as server:
        server.make_bucket("results")
        os.environ.update(server.environment)
        url = "s3://results/team"
        with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
            list(pool.map(make_runs, [url] * WORKERS, [range(start, plan.runs, WORKERS) for start in range(WORKERS)]))
        command = [sys.executable, "-m", "job", "runs", url, "--sort", "test_accuracy", "--json"]
        tries = []
        for _ in range(3):
            begun, worked = time.perf_counter(), cpu_of_children()
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            tries.append((time.perf_counter() - begun, cpu_of_children() - worked))
            assert len(found) == plan.runs
    seconds, worked = min(tries)
    return {"runs": plan.runs, "seconds": seconds, "cpu_seconds": worked}


def cpu_of_children() -> float:
    """Seconds that commands which have ended kept CPUs busy; what others did on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_runs(url: str, numbers: Iterable[int]) -> None:
    store = open_store(url)
    for number in numbers:
        run, attempt, facts = f"sweep-{number:04d}", "0001-abcdef", {"engine": "torch", "recipe": "default", "epochs": 20}
        store.put(f"{run}/run.json", encoded({"recipe": Recipe().as_dict(), "seed": number}))
        store.put(f"{run}/attempts/{attempt}/claim.json", encoded({"engine": "torch"}))
        store.put(f"{run}/attempts/{attempt}/status.json", encoded({**facts, "epoch": 7, "test_accuracy": None}))
        if number % UNFINISHED:
            figures = {
                "test_accuracy": number / 2_000,
                "images_per_second": 1000.0,
                "final": {f"plots/{i}.png": "x" * 80 for i in range(12)},
            }
            store.put(f"{run}/summary.json", encoded({**facts, **figures}))


def checkpoints(plan: Plan) -> Found:
    """AlexNet at full size, 228 MB: written, hashed and stored; and the same bytes by themselves."""
    recipe = Recipe(width=plan.width)
    architecture = recipe.architecture()
    tensors = list(initial_weights(recipe, architecture, 0))
    with tempfile.TemporaryDirectory() as folder, weed() as server:

        def fresh(write: Callable[[Path], object]) -> None:
            """To a new file, gone afterwards, so that no try pays for what the one before it left to be written out."""
            path = Path(folder, secrets.token_hex(4))
            write(path)
            path.unlink()

        def write_ours(path: Path) -> None:
            write_tensors(path, architecture.parameter_shapes, "float32", tensors)

        path = Path(folder, "model.safetensors")
        write_ours(path)
        data = path.read_bytes()
        write = timed(lambda: fresh(write_ours))
        alone = timed(lambda: fresh(lambda path: path.write_bytes(data)))
        hashing = timed(lambda: sha256(path))
        storing = timed(lambda: bucket(server).put("model.safetensors", path))
    megabytes = len(data) / 1e6
    times = {"write": write, "write_bytes_alone": alone, "hash": hashing, "store": storing}
    return {"megabytes": megabytes} | {f"{name}_megabytes_per_second": megabytes / seconds for name, seconds in times.items()}


def bucket(server: Server) -> Store:
    server.make_bucket("checkpoints")
    os.environ.update(server.environment)
    return open_store("s3://checkpoints")


def timed(action: Callable[[], object], times: Sequence[int] = range(3)) -> float:
    """Seconds of the quickest of some tries."""
    best = float("inf")
    for _ in times:
        begun = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begun)
    return best
