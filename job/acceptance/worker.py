"""`python -m job.acceptance.worker ORDER`: the process of one GPU, which sees no other one.  ORDER is JSON, an `Order`.

It takes rounds in each precision in turn, copies blocks, tries the memory, and says on standard output how far it is and, at last, what it
measured: one JSON object a line.  What it measured is judged elsewhere (`judgement`).
"""

import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from job.acceptance import memory
from job.acceptance.judgement import Facts
from job.acceptance.load import figures
from job.acceptance.rounds import MODES, Rounds, Work
from job.bench.turns import replies
from job.core.acceptance_records import LoadFigures, MemoryTest, ModeResult, StepSums
from job.core.identity_records import Environment
from job.core.recipe import Recipe
from job.core.resource_records import Health, PcieLink
from job.data.sources import digits
from job.engines import Engine, open_engine, translated
from job.engines.probe import Probe, open_probe
from job.telemetry.gpu import opened
from job.telemetry.nvml import Device
from job.telemetry.sampler import Sampler

CPU_BYTES = 1 << 26
"""of host memory that is copied and tried where there is no GPU: all else belongs to others"""
COPIED_BYTES = 1 << 28
MEMORY_SHARE, MEMORY_SPARED = 0.9, 3 << 29
"""of what is free on a GPU that is tried, and the bytes that the trial itself needs beside it"""
MEMORY_TIME = 0.1
"""of --minutes that the patterns may take"""


class Order(TypedDict):
    """What is to be done."""

    engine: str
    device: str
    threads: int
    recipe: dict[str, Any]
    seed: int
    steps: int
    traced: int
    """step whose operations are recorded, from 1"""
    rounds: int
    """of each precision; 0: as many as `seconds` leave time for, two at least"""
    seconds: float
    on_gpu: bool
    """NVML shows one to this process"""


class Measured(Facts):
    """What came of it: what is judged, and what is stored beside."""

    environment: Environment
    steps: list[StepSums]
    memory_refused: NotRequired[str]
    """why not all of it was tried"""


def measure(engine: Engine, order: Order, device: Device | None, sign: Callable[[str], None]) -> Measured:
    """Raises what the framework raises."""
    probe = open_probe(engine)
    before = device.health() if device else Health()
    modes, load_figures = train(engine, probe, order, device, sign)
    copied = memory.bandwidth(probe, COPIED_BYTES if device else CPU_BYTES)
    tried = try_memory(probe, device, order["seconds"] * MEMORY_TIME, sign)
    return {
        "environment": engine.environment(),
        "modes": [mode for mode, _ in modes],
        "steps": [sums for _, sums in modes],
        "nondeterministic": engine.nondeterministic,
        "before": before,
        "after": device.health() if device else Health(),
        "load": load_figures,
        "bandwidth": copied,
        **tried,
    }


def train(
    engine: Engine, probe: Probe, order: Order, device: Device | None, sign: Callable[[str], None]
) -> tuple[list[tuple[ModeResult, StepSums]], LoadFigures]:
    """All rounds, the precisions taking turns."""
    work = Work(recipe=Recipe(**order["recipe"]), seed=order["seed"], steps=order["steps"], traced=order["traced"], data=digits())
    rounds = [Rounds(engine, probe, work, mode, sign) for mode in MODES if mode != "tf32" or probe.tf32(True)]
    with tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        sampler = Sampler(Path(folder), deliver=Path.unlink, say=sign)
        sampler.start()
        begun = time.monotonic()
        while rounds[-1].done < (order["rounds"] or 2) or (not order["rounds"] and time.monotonic() - begun < order["seconds"]):
            for one in rounds:
                one.take()
        link = device.link() if device else PcieLink()
        found = figures(sampler.rows, sampler.stop(), time.monotonic() - begun)
    if link:
        found["pcie"] = link
    return [one.result() for one in rounds], found


class Tried(TypedDict):
    """Of `Measured`."""

    memory: MemoryTest | None
    memory_refused: NotRequired[str]


def try_memory(probe: Probe, device: Device | None, seconds: float, sign: Callable[[str], None]) -> Tried:
    """What is free of a GPU; a block of a CPU's."""
    gc.collect()  # the networks
    probe.release()
    size = CPU_BYTES
    if device:
        row = device.read(False)
        if "memory_total_bytes" not in row:
            return {"memory": None, "memory_refused": "the driver does not say how much is free"}
        size = int((row["memory_total_bytes"] - row["memory_used_bytes"] - MEMORY_SPARED) * MEMORY_SHARE)
        if size < CPU_BYTES:
            return {"memory": None, "memory_refused": "too little is free"}
    try:
        return {"memory": memory.patterns(probe, size, sign, seconds or float("inf"))}
    except Exception as error:
        if "out of memory" in str(error).lower() or "OOM" in str(error):
            return {"memory": None, "memory_refused": "the framework could not have all that the driver calls free"}
        raise


def end_with_parent() -> None:
    """A process whose node's process is gone has nobody to tell."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    order: Order = json.loads(sys.argv[1])
    threading.Thread(target=end_with_parent, daemon=True).start()
    with replies() as reply:
        engine = open_engine(order["engine"], device=order["device"], threads=order["threads"])
        with translated(engine):
            reply({"environment": engine.environment()})
            device = next(iter(opened()), None) if order["on_gpu"] else None
            measured = measure(engine, order, device, lambda text: reply({"sign": text}))
        reply({"measured": measured})


if __name__ == "__main__":
    main()
