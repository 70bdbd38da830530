"""Which objects of a run others vouch for: those that the manifests of its checkpoints and its summary list, with sizes and digests."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.core.exits import Exit, JobError
from job.runs.checkpoint import CHECKPOINT_FILES
from job.runs.run import Run
from job.runs.tensorfile import read_tensors
from job.storage.manifest import MANIFEST, FileEntry, Manifest, parse_files

Inventory = dict[str, FileEntry]
"""by keys"""


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """What a summary says about other objects."""

    attempt: str
    model: str
    """object below the run"""
    final: Mapping[str, FileEntry]
    """objects below `final/ATTEMPT`"""


def is_manifest(key: str) -> bool:
    return key.endswith(f"/{MANIFEST}")


def inventory(run: Run, keys: Iterable[str]) -> Inventory:
    """What the manifests among `keys` and the run's summary list.  A damaged manifest lists nothing.  Raises JobError (65)."""
    found: Inventory = {}
    for key in filter(is_manifest, keys):
        content = run.read(*key.split("/")[1:])
        with suppress(JobError):
            found |= listed_by(key, Manifest.parse(content, key))
    if (summary := commitment(run)) is not None:
        found |= {run.key("final", summary.attempt, name): entry for name, entry in summary.final.items()}
    return found


def listed_by(key: str, manifest: Manifest) -> Inventory:
    """Of a manifest under this key."""
    return {f"{key.removesuffix(MANIFEST)}{name}": entry for name, entry in manifest.files.items()}


def commitment(run: Run) -> Commitment | None:
    """None: the run has no summary.  Raises JobError (65) where that does not say whose it is and what it lists."""
    summary: Any = run.summary()
    if summary is None:
        return None
    try:
        return Commitment(attempt=str(summary["attempt"]), model=str(summary["model"]), final=parse_files(summary["final"]))
    except (KeyError, TypeError, AttributeError, ValueError):
        where = f"{run.store.url}/{run.key('summary.json')}"
        raise JobError(Exit.DATA, f"{where} does not name an attempt, a model and its final objects. Expected what a run leaves.") from None


def manifest_for(folder: Path) -> Manifest | None:
    """For a checkpoint that has none yet, where it is whole by its own lights: a process killed while it wrote leaves less."""
    paths = [folder / name for name in CHECKPOINT_FILES]
    try:
        for path in paths:
            if path.suffix == ".safetensors":
                all(read_tensors(path))
            else:
                lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
                list(map(json.loads, lines))
        return Manifest.of_folder(folder, paths)
    except (OSError, ValueError, JobError):
        return None
