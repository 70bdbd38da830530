"""Measurements of a sound GPU, to be changed."""

from typing import Any

HEALTH = {
    "ecc": {"corrected": 2, "uncorrected": 0, "remapped_corrected": 0, "remapped_uncorrected": 0, "remapping_pending": False},
    "pcie": {"generation": 1, "width": 16, "generation_max": 5, "width_max": 16, "replays": 0},
    "nvlink": {"links": 18, "active": 18, "errors": 0},
    "temperature_celsius": 31,
}


def mode(**changes: Any) -> dict[str, Any]:
    return {
        "mode": "bf16",
        "rounds": 5,
        "steps": 100,
        "interval": 10,
        "digest": "0" * 64,
        "state_sha256": "0" * 64,
        "tensors": [{"name": "loss", "intervals": ["0" * 16] * 10}],
        "traced": 1,
        "operations": [{"name": "inputs", "digest": "0" * 16}],
        "deviations": [],
        "deviant_rounds": 0,
        "last_loss": 1.5,
        "images_per_second": {"median": 100.0, "least": 99.0, "greatest": 101.0},
        **changes,
    }


def measured(**changes: Any) -> dict[str, Any]:
    """What a worker measured; `before`, `after` and `load` are changed part by part."""
    parts: dict[str, dict[str, Any]] = {
        "before": HEALTH,
        "after": HEALTH,
        "load": {"seconds": 60.0, "throttled": {}, "pcie": {"generation": 5, "width": 16, "generation_max": 5, "width_max": 16}},
    }
    whole = {
        "modes": [mode(), mode(mode="fp32")],
        "nondeterministic": [],
        "memory": {"bytes": 1 << 30, "patterns": 5, "wrong_words": 0},
        "bandwidth": {"bytes": 1 << 28} | dict.fromkeys(("host_to_device_bytes_per_second", "device_bytes_per_second"), 1e9),
    }
    for name, part in parts.items():
        whole[name] = {**part, **changes.pop(name)} if changes.get(name) else changes.pop(name, part)
    return {**whole, **changes}
