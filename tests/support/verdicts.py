"""Verdicts of GPUs as `alexnet accept` would store them, for tests of what reads them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from job.core.acceptance_records import Mode, ModeResult, Started, Steps, Verdict
from job.core.resource_records import Health
from job.storage.files import encoded
from job.storage.store import Store

ATTEMPT, PRODUCT = "0001-abcdef", "NVIDIA H100 80GB HBM3"
NAMES = [
    *(
        f"{layer}.{kind}"
        for layer in ("features.0", "features.3", "features.6", "classifier.1", "classifier.6")
        for kind in ("weight", "bias")
    )
]
TENSORS = ["loss", *(f"weights/{name}" for name in NAMES), *(f"slots/momentum/{name}" for name in NAMES)]
OPERATIONS = ["inputs", "activations/features.0", "activations/features.3", "logits", "gradients/classifier.6.weight"]
INTERVALS, STEPS = 10, 100
HEALTH: Health = {
    "temperature_celsius": 40,
    "power_watts": 70.0,
    "pcie": {"generation": 1, "width": 16, "generation_max": 5, "width_max": 16},
}


def digest(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def spread(value: float) -> Any:
    return {"median": value, "least": 0.99 * value, "greatest": 1.01 * value}


def mode_result(
    mode: Mode,
    speed: float,
    *,
    wrong_from: int | None = None,
    first: Sequence[str] = (),
    operation: str = "",
    who: str = "",
    traced: int = 1,
) -> ModeResult:
    """`wrong_from`: number of the first interval that is wrong, from 0, in the tensors `first` and in all from the next on."""
    tensors = []
    for name in TENSORS:
        since = INTERVALS if wrong_from is None else wrong_from if name in first else wrong_from + 1
        tensors.append({"name": name, "intervals": [digest(mode, name, n, who if n >= since else "")[:16] for n in range(INTERVALS)]})
    operations = [{"name": name, "digest": digest(mode, name, who if name == operation else "")[:16]} for name in OPERATIONS]
    return {
        "mode": mode,
        "rounds": 3,
        "steps": STEPS,
        "interval": STEPS // INTERVALS,
        "digest": digest(tensors),
        "state_sha256": digest(tensors, "state"),
        "tensors": tensors,
        "traced": traced,
        "operations": operations,
        "deviations": [],
        "deviant_rounds": 0,
        "last_loss": 0.5,
        "images_per_second": spread(speed),
    }  # type: ignore[typeddict-item]


def started(number: int = 0, gpus_per_node: int = 8, **changes: Any) -> Started:
    """Of GPU `number` of a fleet, from 0."""
    code = {"version": "0.1.0", "revision": None, "source": "e" * 64, "image": ""}
    place = {"node": f"node-{number // gpus_per_node:03}", "host": f"pod-{number}", "pod": f"pod-{number}", "namespace": "default"}
    gpu = {"name": PRODUCT, "uuid": f"GPU-{number:08x}", "position": number % gpus_per_node, "mig": False, "driver": "580.1"}
    job = {"job": "alexnet-accept", "job_uid": "uid", "gpu_uuid": gpu["uuid"], "index": number, "of": None}
    return {"format": 1, "engine": "torch", "started": 400.0, **code, **place, **job, "gpu": gpu, **changes}  # type: ignore[typeddict-item]


def verdict(number: int = 0, *, wrong: Mapping[str, Any] | None = None, pace: float = 1.0, **changes: Any) -> Verdict:
    """`wrong`: as `mode_result` takes it; `pace`: times the usual speed.  Noise follows from the number."""
    noise = np.random.default_rng(number).normal(0.0, 1.0, 6)
    wrong = {"who": f"gpu {number}", **wrong} if wrong else {}
    modes = [mode_result(mode, speed * pace * (1 + 0.004 * noise[0]), **wrong) for mode, speed in (("bf16", 9000.0), ("fp32", 4000.0))]  # type: ignore[arg-type]
    made = {
        "verdict": "pass",
        "evidence": [{"check": "rounds", "level": "pass", "what": "3 rounds gave the same bytes."}],
        "not_tested": ["NVLink: one GPU is visible."],
        "written": 1000.0,
        "seconds": 600.0,
        "environment": {"engine": "torch", "device": PRODUCT, "torch": "2.14.1", "cuda": "13.0", "cudnn": 9, "numpy": "2.0"},
        "group": {"gpu": PRODUCT, "driver": "580.1", "engine": "torch"},
        "work": {"seed": 0, "steps": STEPS, "width": 1.0},
        "reproducible": True,
        "nondeterministic": [],
        "modes": modes,
        "before": HEALTH,
        "after": HEALTH,
        "load": {
            "seconds": 500.0,
            "power_watts": spread(650 + 5 * noise[1]),
            "temperature_celsius": spread(round(60 + 2 * noise[2])),
            "sm_clock_mhz": spread(1900 + 10 * noise[3]),
            "throttled": {"power_cap": 0.3},
            "pcie": {"generation": 5, "width": 16, "generation_max": 5, "width_max": 16},
        },
        "bandwidth": {
            "bytes": 1 << 28,
            "host_to_device_bytes_per_second": 5e10 * (1 + 0.005 * noise[4]),
            "device_to_host_bytes_per_second": 5e10 * (1 + 0.005 * noise[5]),
            "device_bytes_per_second": 2.8e12,
        },
        "memory": {"bytes": 1 << 36, "patterns": 8, "wrong_words": 0},
    }
    return {**started(number), **made, **changes}  # type: ignore[typeddict-item]


def steps(wrong_step: int | None = None, name: str = "slots/momentum/features.6.weight", who: str = "") -> Steps:
    """Checksums of bf16; from `wrong_step` (from 1) on those of `name` are wrong, and all from the next step on."""

    def checksum(step: int, tensor: str) -> str:
        wrong = wrong_step is not None and (step > wrong_step or (step == wrong_step and tensor == name))
        return digest(step, tensor, who if wrong else "")[:16]

    names = TENSORS[1:]
    sums = [[checksum(step, tensor) for tensor in names] for step in range(1, STEPS + 1)]
    losses = [(1.0 / step if wrong_step is None or step <= wrong_step else 2.0 / step).hex() for step in range(1, STEPS + 1)]
    return {"format": 1, "modes": [{"mode": "bf16", "losses": losses, "names": names, "sums": sums}]}


def stored(
    store: Store, name: str, found: Verdict | None, *, attempt: str = ATTEMPT, beginning: Started | None = None, sums: Steps | None = None
) -> None:
    store.put(f"{name}/{attempt}/started.json", encoded(beginning or started()))
    if sums:
        store.put(f"{name}/{attempt}/steps.json", encoded(sums))
    if found:
        store.put(f"{name}/{attempt}/verdict.json", encoded(found))
