"""Whole programs, one after the other in rounds: our job with everything on, and what people run instead; and the way to the first step."""

import importlib.util
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from job.bench.figures import spread
from job.core.records import EpochLine
from job.data import sources
from job.data.cifar_binary import CLASSES, binary_files
from job.data.dataset import Dataset, Split
from job.runs.results import Results, read_results
from tests.support.servers import weed
from tools.bench.plan import Plan, reported
from tools.bench.steps import program

FRAMEWORKS = {"torch": "lightning", "tensorflow": "fit"}
CHECKPOINT_SECONDS = 300.0
"""between two checkpoints, by which the cost of one is divided"""
FIRST = re.compile(r"step 1/")
STORED = re.compile(r"first checkpoint: .* to store")

Found = dict[str, Any]


@contextmanager
def random_data(plan: Plan) -> Iterator[Path]:
    """A folder in CIFAR-10's binary layout, of its size."""
    generator = np.random.Generator(np.random.PCG64(0))

    def split(count: int) -> Split:
        return Split(images=generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), labels=(np.arange(count) % 10).astype(np.uint8))

    data = Dataset(name="random", train=split(plan.images), test=split(plan.test_images), classes=CLASSES, source="", checksums={})
    with tempfile.TemporaryDirectory() as folder:
        for name, content in binary_files(data):
            Path(folder, name).write_bytes(content)
        yield Path(folder)


def measure(plan: Plan, threads: int, bare: Mapping[str, float], data: Path, say: Callable[[str], None]) -> dict[str, Found]:
    """`ENGINE PRECISION PROGRAM` → figures.  `bare`: `ENGINE PRECISION` → seconds of our bare step."""
    rounds: dict[str, list[Found]] = {}
    with weed() as server:
        server.make_bucket("bench")
        for number in range(plan.rounds):
            for engine, precision, name in programs(plan):
                if number and precision != plan.precisions[-1] and name != "original":
                    continue  # beside the main comparison, once
                say(f"whole programs, round {number + 1}: {engine}, {precision}, {name}")
                pace = bare.get(f"{engine} {precision}", 1.0)
                with reported(say):
                    if name == "ours":
                        one = job(engine, precision, plan, pace, data, f"{engine}-{number}", server.environment)
                    else:
                        one = other(engine, precision, name, plan, threads, pace, data)
                    rounds.setdefault(f"{engine} {precision} {name}", []).append(one)
    return {name: {key: spread([one[key] for one in found]) for key in found[0]} for name, found in rounds.items()}


def programs(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """(engine, precision, program), those that are compared next to each other."""
    for engine in plan.engines:
        main = plan.precisions[-1]
        found = [(main, "ours"), *((precision, FRAMEWORKS[engine]) for precision in reversed(plan.precisions)), ("fp32", "original")]
        for precision, name in found:
            if name != "lightning" or lightning_is_here():
                yield engine, precision, name


def lightning_is_here() -> bool:
    return importlib.util.find_spec("pytorch_lightning") is not None


def other(engine: str, precision: str, name: str, plan: Plan, threads: int, pace: float, data: Path) -> Found:
    batch = plan.original_batch_size if name == "original" else plan.batch_size
    steps = plan.steps(pace * batch / plan.batch_size, plan.program_seconds)
    with program(engine, name, precision, plan, threads, batch_size=batch, steps=steps, data=str(data)) as done:
        return done.facts


def job(engine: str, precision: str, plan: Plan, pace: float, data: Path, run: str, environment: Mapping[str, str]) -> Found:
    """Two epochs of `alexnet train`, into the S3 server.  Its speed is that of the second epoch with its evaluation aside."""
    half = plan.steps(pace, plan.program_seconds) // 2
    words = [*command(engine, precision, plan, data), "--subset", str(2 * half * plan.batch_size), "--epochs", "2"]
    words += ["--log-steps", str(half), "--output", "s3://bench/runs", "--run-id", run]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, check=False, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}. It said last: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with variables(environment):
        results = read_results(f"s3://bench/runs/{run}")
    return {**speed(results), "cpu_seconds_per_image": cpu / (4 * half * plan.batch_size)}


def speed(results: Results) -> Found:
    """Of the second epoch: its pace is that of its last half, when the checkpoint of the first epoch is delivered; what the whole took
    longer is what a checkpoint costs; the two together, with one checkpoint in five minutes, are the speed of the job."""
    batch = results.record["recipe"]["batch_size"]
    first, second = [line for line in results.lines if line["kind"] == "epoch"][:2]
    last = [line for line in results.lines if line["kind"] == "interval" and line["epoch"] == 2][-1]
    step = batch / last["images_per_second"]
    stall = stalled(second)
    checkpoint = max(training(second) - (second["step"] - first["step"]) * step, stall)
    return {
        "images_per_second": batch / (step * (1 + checkpoint / CHECKPOINT_SECONDS)),
        "checkpoint_seconds": checkpoint,
        "checkpoint_stall": stall / CHECKPOINT_SECONDS,
        "peak_host_memory_bytes": results.summary["peak_host_memory_bytes"],
    }


def stalled(epoch: EpochLine) -> float:
    """Seconds in which training waited for a checkpoint; that of the epoch before falls into it."""
    return sum(epoch["seconds"].get(purpose, 0.0) for purpose in ("checkpoint stall", "upload wait"))


def training(epoch: EpochLine) -> float:
    """Seconds of an epoch without its evaluation."""
    return sum(seconds for purpose, seconds in epoch["seconds"].items() if purpose not in ("evaluation", "start-up"))


def command(engine: str, precision: str, plan: Plan, data: Path) -> list[str]:
    words = ["train", "--engine", engine, "--data", str(data), "--precision", precision, "--image-size", str(plan.image_size)]
    return [sys.executable, "-m", "job", *words, "--width", str(plan.width), "--batch-size", str(plan.batch_size)]


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def first_steps(plan: Plan, data: Path, say: Callable[[str], None]) -> dict[str, Found]:
    """Engine → seconds from the command to the first step of a run over a dataset of CIFAR-10's size on disk, and its peak memory up to a
    checkpoint, after which it is stopped."""
    begun = time.perf_counter()
    sources.load(str(data), cache=Path())
    reading = time.perf_counter() - begun
    found: dict[str, list[Found]] = {engine: [] for engine in plan.engines}
    for number in range(plan.first_steps):
        for engine in plan.engines:
            say(f"the way to the first step, {number + 1}: {engine}")
            with reported(say):
                found[engine].append(first_step(engine, plan, data, reading))
    return {engine: {key: statistics.median(one[key] for one in tries) for key in tries[0]} for engine, tries in found.items() if tries}


def first_step(engine: str, plan: Plan, data: Path, reading: float) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        words = [*command(engine, plan.precisions[-1], plan, data), "--log-steps", "1", "--checkpoint-steps", "2", "--output", folder]
        begun = time.perf_counter()
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        at: dict[str, float] = {}
        assert process.stderr
        for line in process.stderr:
            if "results in" in line:
                at.setdefault("ready", time.perf_counter() - begun)
            if FIRST.search(line):
                at["first step"] = time.perf_counter() - begun
            if STORED.search(line):
                break
        os.kill(process.pid, signal.SIGTERM)  # Popen's own method would reap it, and its peak memory be lost
        rest = process.stderr.read()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    if "first step" not in at:
        raise RuntimeError(f"{' '.join(words)}: took no step. It said last: {rest[-500:]}")
    return {
        "seconds": at["first step"],
        "data": reading,
        "imports": at["ready"] - reading,
        "compile": at["first step"] - at["ready"],
        "peak_host_memory_bytes": usage.ru_maxrss * 1024,
    }
