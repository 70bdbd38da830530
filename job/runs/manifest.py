"""What vouches for other objects: the manifests of checkpoints and the summary of a run, with sizes and digests."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from job.core.exits import Exit, JobError
from job.runs.run import CHECKPOINT_FILES, Run
from job.runs.tensorfile import read_tensors
from job.storage.files import encoded, sha256

MANIFEST = "/MANIFEST.json"
Listed = dict[str, dict[str, Any]]
"""key → size in bytes and sha256"""


def listed_objects(run: Run, keys: Iterable[str]) -> Listed:
    """What the manifests among `keys` and the run's summary list.  One that is no manifest lists nothing.  Raises JobError (65)."""
    found: Listed = {}
    for key in keys:
        if key.endswith(MANIFEST):
            found |= listed_by(key, run.read(*key.split("/")[1:]))
    if (summary := summary_of(run)) is not None:
        found |= {run.key("final", summary["attempt"], name): entry for name, entry in summary["final"].items()}
    return found


def listed_by(manifest: str, content: Any) -> Listed:
    """Of a manifest under this key."""
    folder = manifest.removesuffix(MANIFEST)
    try:
        return {f"{folder}/{name}": {"size": int(e["size"]), "sha256": str(e["sha256"])} for name, e in content["files"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def summary_of(run: Run) -> Mapping[str, Any] | None:
    """Raises JobError (65) where it does not say whose it is and what it lists."""
    summary: Any = run.summary()
    if summary is None:
        return None
    try:
        str(summary["attempt"]), str(summary["model"]), [(e["size"], e["sha256"]) for e in summary["final"].values()]
    except (KeyError, TypeError, AttributeError):
        where = f"{run.store.url}/{run.key('summary.json')}"
        raise JobError(Exit.DATA, f"{where} does not name an attempt, a model and its final objects. Expected what a run leaves.") from None
    found: Mapping[str, Any] = summary
    return found


def manifest_for(folder: Path) -> bytes | None:
    """For a checkpoint that has none yet, where it is whole by its own lights: a process killed while it wrote leaves less."""
    files = {name: folder / name for name in CHECKPOINT_FILES}
    try:
        for name, path in files.items():
            if name.endswith(".safetensors"):
                all(read_tensors(path))
            else:
                lines = path.read_text().splitlines() if name.endswith(".jsonl") else [path.read_text()]
                list(map(json.loads, lines))
        return encoded({"files": {name: {"size": path.stat().st_size, "sha256": sha256(path)} for name, path in files.items()}})
    except (OSError, ValueError, JobError):
        return None
