"""Which objects of a run others vouch for: those that the manifests of its checkpoints and its summary list, with sizes and digests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from job.core.exits import Exit, JobError
from job.core.records import Committed
from job.core.validation import decoded
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
    """What the manifests among `keys` and the run's summary list.  A damaged manifest lists nothing.  Raises as `commitment`."""
    found: Inventory = {}
    for key in filter(is_manifest, keys):
        try:
            manifest = run.manifest(*key.split("/")[1:-1])
        except JobError as error:
            if error.code is not Exit.DATA:
                raise
            continue
        if manifest is not None:
            found |= listed_by(key, manifest)
    if (summary := commitment(run)) is not None:
        found |= {run.key("final", summary.attempt, name): entry for name, entry in summary.final.items()}
    return found


def listed_by(key: str, manifest: Manifest) -> Inventory:
    """Of a manifest under this key."""
    return {f"{key.removesuffix(MANIFEST)}{name}": entry for name, entry in manifest.files.items()}


def commitment(run: Run) -> Commitment | None:
    """None: the run has no summary.  Raises JobError (65) where that does not say whose it is and what it lists; 78: a newer version."""
    summary = run.read(Committed, "summary.json")
    if summary is None:
        return None
    return Commitment(attempt=summary["attempt"], model=summary["model"], final=parse_files(summary["final"]))


def manifest_for(folder: Path) -> Manifest | None:
    """For a checkpoint that has none yet, where it is whole by its own lights: a process killed while it wrote leaves less."""
    paths = [folder / name for name in CHECKPOINT_FILES]
    try:
        for path in paths:
            if path.suffix == ".safetensors":
                all(read_tensors(path))
            else:
                lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
                list(map(decoded, lines))
        return Manifest.of_folder(folder, paths)
    except (OSError, ValueError, JobError):
        return None
