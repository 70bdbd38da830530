"""`python -m tests.engines.traces ENGINE FOLDER CASE…`: traces by one engine, each in FOLDER/CASE.safetensors.

A case is a recipe, traced soundly or with a fault of `tests.engines.planted`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from job.core.recipe import Recipe
from job.engines import ENGINES, Network, open_engine
from job.parity.record import observed_steps, trace
from job.parity.tracefile import Trace, TraceWriter
from tests.engines.planted import FAULTS, Plant

SMALL = Recipe(batch_size=8, image_size=64, width=1 / 16, precision="fp64", initial_weights="torch")
ADAM = SMALL.with_values({"optimizer": "adam", "learning_rate": 1e-3, "normalization": "half", "schedule": "constant"})
KERAS = SMALL.with_values(
    {
        "optimizer": "adam-keras",
        "learning_rate": 1e-3,
        "epsilon": 1e-7,
        "conv1_padding": "same",
        "dropout_position": "after",
        "normalization": "per-image",
        "clip_norm": 0,
        "weight_decay": 0,
    }
)
PLAIN = SMALL.with_values({"nesterov": False, "dropout": 0, "label_smoothing": 0, "normalization": "imagenet", "pretrained": True})
AVERAGED = SMALL.with_values({"cutout": 9, "ema_decay": 0.9})
GROWING = SMALL.with_values({"image_size": 128, "progressive_resizing": "64:0.34 96:0.33"})
CLIPPED = SMALL.with_values({"clip_norm": 0.1, "warmup": 0.5})
RECIPES = {
    "default": SMALL,
    "torch-adam": ADAM,
    "keras-adam": KERAS,
    "plain-momentum": PLAIN,
    "clipped": CLIPPED,
    "growing": GROWING,
    "averaged": AVERAGED,
}
PRECISIONS = ("fp64", "fp32", "bf16")


@dataclass(frozen=True)
class Case:
    """What to trace, and what to plant before."""

    recipe: Recipe
    steps: int = 6
    plant: Plant | None = None


def channels_first(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """No fault: PyTorch's other memory layout, in which its kernels add in another order."""
    patch.setattr(module.torch, "channels_last", module.torch.contiguous_format)


def in_all_precisions(cases: dict[str, Case]) -> dict[str, Case]:
    """label-PRECISION → case."""
    return {
        f"{label}-{precision}": Case(case.recipe.with_values({"precision": precision}), case.steps, case.plant)
        for label, case in cases.items()
        for precision in PRECISIONS
    }


SOUND = in_all_precisions({label: Case(recipe) for label, recipe in RECIPES.items()})
FAULTY = in_all_precisions({label: Case(RECIPES[fault.recipe], plant=fault.plant) for label, fault in FAULTS.items()})
LONG = in_all_precisions({f"long-{label}": Case(recipe, steps=50) for label, recipe in RECIPES.items()})
GROWN = Recipe(batch_size=32, image_size=64, width=1 / 4, precision="fp32")
GROWTH = {
    "growth": Case(GROWN, steps=300),
    "growth-channels-first": Case(GROWN, steps=300, plant=channels_first),
    "growth-fp64": Case(GROWN.with_values({"precision": "fp64"}), steps=300),
}
CASES = {**SOUND, **FAULTY, **LONG, **GROWTH}


def write(name: str, case: Case, path: Path) -> None:
    """One trace by the engine `name`."""
    engine = open_engine(name, device="cpu", threads=1)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        if case.plant:
            (network,) = Network.__subclasses__()  # the other engine is not imported
            case.plant(patch, import_module(network.__module__), network)
        writer = TraceWriter(Path(folder))
        facts = trace(engine, case.recipe, writer, seed=3, steps=case.steps, at=observed_steps((), case.steps))
        writer.finish(path, {**facts, "threads": 1})


def traced(folder: Path, cases: Iterable[str]) -> Callable[[str, str], Trace]:
    """traced(engine, case): a verified trace.  Both engines are at work side by side, each in a process of its own."""
    running = []
    for engine in ENGINES:
        (folder / engine).mkdir()
        command = [sys.executable, "-m", "tests.engines.traces", engine, folder / engine, *cases]
        running.append(subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True))
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
    return lambda engine, case: Trace(folder / engine / f"{case}.safetensors", case)


if __name__ == "__main__":
    engine_name, folder, *labels = sys.argv[1:]
    for label in labels:
        write(engine_name, CASES[label], Path(folder) / f"{label}.safetensors")
    assert not {"torch", "tensorflow"} <= set(sys.modules), "both frameworks in one process"
