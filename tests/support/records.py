"""Whole records of a run, as its readers demand them; a test changes what it is about."""

from typing import Any

from job.core.identity_records import Claim
from job.core.recipe import Recipe
from job.core.records import CheckpointState, Committed, End, IntervalLine, RunRecord, Status, Summary
from job.storage.files import sha256_of

ATTEMPT = "0001-abcdef"
STEP = f"checkpoints/step-00000010-{ATTEMPT}"
DATA = {"name": "digits", "fingerprint": "f" * 64, "classes": list("0123456789"), "train_images": 1440, "test_images": 357}
ENVIRONMENT = {"engine": "torch", "device": "cpu", "cuda": None, "cudnn": None, "numpy": "2.0"}


def run_record(**changes: Any) -> RunRecord:
    return {"format": 1, "threads": 1, "recipe": Recipe().as_dict(), "seed": 0, "data": DATA, **changes}  # type: ignore[typeddict-item]


def claim(**changes: Any) -> Claim:
    code = {"version": "0.1.0", "revision": None, "source": "e" * 64, "image": ""}
    place = {"host": "node", "gpu_uuid": None, "node": None, "pod": None, "namespace": None, "job": None, "job_uid": None}
    return {**ENVIRONMENT, **code, **place, "started": 0.0, **changes}  # type: ignore[typeddict-item]


def status(**changes: Any) -> Status:
    facts = {"run": "r", "attempt": ATTEMPT, "engine": "torch", "recipe": "default", "epoch": 7, "epochs": 20, "step": 2730, "steps": 7800}
    return {**facts, "test_accuracy": 0.5, "images_per_second": 900.0, "loss": 1.5, "last_step": None, "seconds_left": None, **changes}  # type: ignore[typeddict-item]


def end(code: int, reason: str = "so it was", **changes: Any) -> End:
    return {**status(), "exit_code": code, "reason": reason, **changes}  # type: ignore[typeddict-item]


def checkpoint_state(step: int, best: str | None = None) -> CheckpointState:
    progress = {"step": step, "losses": [], "hits": [], "epoch_loss": 0.0, "epoch_hits": 0, "best": best, "best_accuracy": -1.0}
    return {"format": 1, "progress": progress, "engine": "torch", "ledger": {"epochs": [], "open": {}}, "contributions": []}  # type: ignore[typeddict-item]


def interval_line(step: int) -> IntervalLine:
    rates = {"learning_rate": 0.01, "images_per_second": 900.0}
    return {"kind": "interval", "time": 0.0, "step": step, "epoch": 1, "loss": 2.0, "last_loss": 2.0, "accuracy": 0.5, **rates}  # type: ignore[typeddict-item]


def entry(data: bytes) -> Any:
    """What vouches for an object."""
    return {"size": len(data), "sha256": sha256_of(data)}


def committed(**changes: Any) -> Committed:
    return {"model": f"{STEP}/model.safetensors", "attempt": ATTEMPT, "final": {}, **changes}  # type: ignore[typeddict-item]


def summary(**changes: Any) -> Summary:
    facts = {
        "format": 1,
        "run": "r",
        **ENVIRONMENT,
        "recipe": "default",
        "precision": "fp32",
        "parameters": 57_044_810,
        "seed": 0,
        "data": DATA,
        "epochs": 20,
        "steps": 7800,
        "model_epoch": 20,
        "train_accuracy": 0.9,
        "test_accuracy": 0.9,
        "test_accuracy_interval_95": [0.8, 0.95],
        "test_images": 357,
        "test_loss": 0.5,
        "images_per_second": 900.0,
        "peak_host_memory_bytes": 2_000_000_000,
        "time": {"step": 10.0},
        "wall_seconds": 20.0,
        "goodput": 0.5,
        "images_per_second_p5": 800.0,
        "flop_per_second": 1e12,
        "resources": {"container": {"cpus": None, "memory_bytes": None, "version": "none"}, "gpus": []},
        "contributions": [],
        "speeds": [],
        "findings": [],
        "nondeterministic": [],
    }
    return {**facts, **committed(), **changes}  # type: ignore[typeddict-item]
