"""Runs of several workers: what they leave, and their processes."""

import json
from pathlib import Path

import numpy as np
import psutil

from tests.support.commands import digest, losses, model, summary

ENGINES = ("torch", "tensorflow")


def bytes_of(output: Path, run: str) -> dict[str, object]:
    """Digests of what must be the same for any number of workers, and the losses."""
    weights = model(output, run)
    with np.load(output / run / "final" / summary(output, run)["attempt"] / "predictions.npz", allow_pickle=False) as stored:
        logits = stored["logits"].tobytes()
    return {
        "model": digest(weights),
        "optimizer": digest(weights.with_name("optimizer.safetensors")),
        "logits": digest_of(logits),
        "losses": losses(output, run),
    }


def digest_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def claim(output: Path, run: str) -> dict[str, object]:
    return json.loads((output / run / "attempts" / summary(output, run)["attempt"] / "claim.json").read_text())


def worker_process(parent: int, rank: int) -> psutil.Process:
    """The process of a worker that `parent` started."""
    (found,) = [child for child in psutil.Process(parent).children() if child.environ().get("LOCAL_RANK") == str(rank)]
    return found
