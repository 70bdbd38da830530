"""Whole attempts in this process: a NumPy engine, a small dataset, a folder as store, and what may be done to them."""

import json
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from job.core.exits import Exit
from job.core.recipe import Recipe
from job.data.dataset import Dataset, Split
from job.runs.run import Run
from job.storage.errors import StoreError
from job.storage.files import sha256
from job.storage.folder import FolderStore
from job.training import start
from job.training.options import Options
from job.training.progress import Progress
from job.training.stopping import StopSignal
from tests.support.numpy_engine import NumpyEngine, NumpyNetwork

RECIPE = Recipe(name="tiny", epochs=3, batch_size=8, image_size=64, width=1 / 64, precision="fp32", learning_rate=0.02, clip_norm=0)
STEPS = 6
"""of an epoch"""


def pictures(count: int, seed: int) -> Split:
    """Images whose class is their brightness and tint, so that a linear classifier can learn them."""
    labels = np.arange(count).astype(np.uint8) % 10
    noise = np.random.default_rng(seed).integers(0, 60, (count, 32, 32, 3))
    tints = np.random.default_rng(0).integers(0, 190, (10, 1, 1, 3))
    return Split(images=np.ascontiguousarray((tints[labels] + noise).astype(np.uint8)), labels=labels)


DATA = Dataset(name="tints", train=pictures(50, 1), test=pictures(40, 2), classes=tuple("abcdefghij"), source="made up", checksums={})


@dataclass
class Log:
    """What the training says and shows."""

    lines: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    seconds_left: list[float] = field(default_factory=list)

    def follow(self, run: Run, progress: Progress) -> None:
        pass

    def say(self, line: str, /, **facts: Any) -> None:
        self.lines.append(line)

    def show(self, step: int, steps: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        self.steps.append(step)
        self.seconds_left.append(seconds_left)

    def show_download(self, received: int, total: int | None) -> None:
        raise AssertionError("nothing is downloaded here")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Trainer:
    """Attempts on the run `r` in a folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.store = FolderStore(folder / "runs")
        self.spools = folder / "spools"
        self.log = Log()

    def attempt(self, recipe: Recipe = RECIPE, options: dict[str, Any] | None = None, **hooks: Callable[[NumpyNetwork], None]) -> Exit:
        self.log = Log()
        settings: dict[str, Any] = {"engine": "numpy", "threads": 1, "log_steps": 2, "flush_timeout": 5.0, **(options or {})}
        given = Options(seed=5, spool=self.spools, **settings)
        stop = StopSignal(grace=20.0)
        engine = NumpyEngine(name=given.engine, **hooks)
        initial = start.initial_state(recipe, len(DATA.classes), given, self.log)
        return start.attempt(Run(self.store, "r"), engine, recipe, DATA, given, initial=initial, stop=stop, display=self.log)

    @property
    def run(self) -> Run:
        return Run(self.store, "r")

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads(self.store.get("r/summary.json"))

    @property
    def end(self) -> dict[str, Any]:
        """Of the newest attempt."""
        newest = max(self.store.folders("r/attempts/"))
        return json.loads(self.store.get(f"r/attempts/{newest}/end.json"))

    @property
    def contributions(self) -> list[tuple[int, int, int]]:
        """(number of the attempt, first step, last step) of each that the result rests on."""
        return [(int(c["attempt"][:4]), c["first_step"], c["last_step"]) for c in self.summary["contributions"]]

    @property
    def checkpoints(self) -> list[int]:
        """Steps of those that are stored, newest first."""
        return [name.step for name in self.run.checkpoint_names()]

    @property
    def trained(self) -> tuple[str, str, list[tuple[int, float]], str]:
        """Digests of model and optimiser, the losses, and the digest of the predictions' logits: the same for the same training."""
        summary, root = self.summary, self.store.root / "r"
        lines = map(json.loads, (root / "final" / summary["attempt"] / "metrics.jsonl").read_text().splitlines())
        model = root / summary["model"]
        with np.load(root / "final" / summary["attempt"] / "predictions.npz") as stored:
            logits = stored["logits"].tobytes().hex()
        losses = [(line["step"], line["last_loss"]) for line in lines if line["kind"] == "interval"]
        return sha256(model), sha256(model.with_name("optimizer.safetensors")), losses, logits

    def undelivered(self) -> Path:
        (folder,) = self.spools.glob("alexnet-kept-*")
        return folder


def at_step(number: int, action: Callable[[], Any]) -> Callable[[NumpyNetwork], None]:
    return lambda network: action() if network.number == number else None


def once(action: Callable[[], Any], after: int = 0) -> Callable[[NumpyNetwork], None]:
    """A hook that acts at its call number `after`, from 0."""
    calls = iter(range(1_000_000))
    return lambda network: action() if next(calls) == after else None


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


class Refusing(FolderStore):
    """Takes no object below these parts of the run any more."""

    parts: tuple[str, ...] = ()
    transient = False
    refused = threading.Event()

    def put(self, key: str, data: bytes | Path) -> None:
        self.refuse(key)
        super().put(key, data)

    def move(self, path: Path, key: str) -> None:
        self.refuse(key)
        super().move(path, key)

    def _create(self, key: str, data: bytes) -> bool:
        self.refuse(key)
        return super()._create(key, data)

    def refuse(self, key: str) -> None:
        if key.startswith(tuple(f"r/{part}" for part in self.parts)):
            self.refused.set()
            raise StoreError(Exit.NOT_STORED if self.transient else Exit.CONFIGURATION, f"{key}: refused.", transient=self.transient)
