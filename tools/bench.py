"""`make bench`: a table of times, each beside one of the same machine and minute that it can be compared with.

python -m tools.bench                      everything; two to three minutes on two cores
python -m tools.bench many_runs            one part: many_runs, checkpoints or steps
python -m tools.bench steps ENGINE         one engine's steps, as JSON (the frameworks do not share a process)
"""

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
from job.core.sampling import permutation, plan
from job.runs.tensorfile import write_tensors
from job.storage.files import encoded, sha256
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.servers import Server, weed

RUNS = 2_000
UNFINISHED = 20
"""every so many runs have no summary"""
WORKERS = max(2, len(os.sched_getaffinity(0)))
STEPS = 30
VARIANTS = {
    "plain": {"crop": False, "flip": False, "dropout": 0.0},
    "+ crop and flip": {"crop": True, "flip": True, "dropout": 0.0},
    "+ dropout": {"crop": False, "flip": False, "dropout": 0.5},
    "+ both": {"crop": True, "flip": True, "dropout": 0.5},
}

Row = tuple[str, str, str]
"""what, how much, compared with"""


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["steps"] and len(words) == 2:
        print(json.dumps(step_times(words[1])))
        return
    rows: list[Row] = []
    for part in (many_runs, checkpoints, steps):
        if words and part.__name__ not in words:
            continue
        begun = time.monotonic()
        rows += part()
        print(f"{part.__name__}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    print(f"\n{WORKERS} CPUs, load {os.getloadavg()[0]:.1f}")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def many_runs() -> list[Row]:
    """`alexnet runs` over RUNS runs, from the start of the command to its last line."""
    with weed() as server:
        server.make_bucket("results")
        os.environ.update(server.environment)
        url = "s3://results/team"
        with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
            list(pool.map(make_runs, [url] * WORKERS, [range(start, RUNS, WORKERS) for start in range(WORKERS)]))
        command = [sys.executable, "-m", "job", "runs", url, "--sort", "test_accuracy", "--json"]
        tries, states = [], []
        for _ in range(3):
            begun, worked = time.perf_counter(), cpu_of_children()
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            tries.append((time.perf_counter() - begun, cpu_of_children() - worked))
            states = [row["state"] for row in found]
        assert len(states) == RUNS
        seconds, worked = min(tries)
        return [
            (f"alexnet runs, {RUNS} runs, {states.count('finished')} finished", f"{seconds:.2f} s", f"5 s allowed; {worked:.2f} s of CPU"),
            ("of these, to read 200 objects one by one × 10", f"{10 * timed(lambda: read_some(open_store(url))):.2f} s", ""),
        ]


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
                "test_accuracy": number / RUNS,
                "images_per_second": 1000.0,
                "final": {f"plots/{i}.png": "x" * 80 for i in range(12)},
            }
            store.put(f"{run}/summary.json", encoded({**facts, **figures}))


def read_some(store: Store) -> None:
    for number in range(200):
        store.get(f"sweep-{number:04d}/run.json")


def checkpoints() -> list[Row]:
    """AlexNet at full size, 228 MB: written, hashed and stored; and the same bytes by themselves."""
    recipe = Recipe()
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
    size = len(data) / 1e6
    return [
        (f"write model.safetensors, {size:.0f} MB", f"{size / write:.0f} MB/s", f"{alone / write:.2f} × the speed of the bytes alone"),
        ("hash it", f"{size / hashing:.0f} MB/s", f"{write / hashing:.2f} × the speed of writing"),
        ("store it in the embedded S3 server", f"{size / storing:.0f} MB/s", f"{hashing / storing:.2f} × the speed of hashing"),
    ]


def bucket(server: Server) -> Store:
    server.make_bucket("checkpoints")
    os.environ.update(server.environment)
    return open_store("s3://checkpoints")


def steps() -> list[Row]:
    """Training steps of both engines in turn, 64 pixels, a quarter of the channels, 32 images, one thread."""
    found: dict[str, dict[str, float]] = {"torch": {}, "tensorflow": {}}
    for engine in [*found] * 2:
        command = [sys.executable, "-m", "tools.bench", "steps", engine]
        times = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        found[engine] = {variant: min(seconds, found[engine].get(variant, seconds)) for variant, seconds in times.items()}
    rows = []
    for engine, times in found.items():
        for variant, seconds in times.items():
            other = next(name for name in found if name != engine)
            compared = f"{seconds / times['plain']:.2f} × plain, {seconds / found[other][variant]:.2f} × {other}"
            rows.append((f"{engine}: a step, {variant}", f"{1e3 * seconds:.1f} ms", compared))
    return rows


def step_times(name: str) -> dict[str, float]:
    """Variant → seconds of the quickest step."""
    from job import engines
    from job.data import sources

    data = sources.load("digits", cache=Path())
    engine = engines.open_engine(name, device="cpu", threads=1)
    return {variant: quickest_step(engine, data, values) for variant, values in VARIANTS.items()}


def quickest_step(engine: Any, data: Any, values: dict[str, Any]) -> float:
    recipe = Recipe(image_size=64, width=0.25, batch_size=32, precision="fp32", **values)
    architecture = recipe.architecture()
    network = engine.network(recipe, architecture)
    network.place("train", data.train.images, data.train.labels)
    network.load(initial_weights(recipe, architecture, 0), ())
    order = permutation(0, 0, len(data.train))

    def step(number: int) -> float:
        begun = time.perf_counter()
        network.step(plan(recipe, architecture, 0, order, epoch=0, step=number), rate=0.01, number=number + 1)
        network.read()  # waits for the device
        return time.perf_counter() - begun

    return min(step(number) for number in range(STEPS))


def timed(action: Callable[[], object], times: Sequence[int] = range(3)) -> float:
    """Seconds of the quickest of some tries."""
    best = float("inf")
    for _ in times:
        begun = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begun)
    return best


if __name__ == "__main__":
    main()
