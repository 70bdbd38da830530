"""MANIFEST.json: the sizes and digests of the files beside it, stored after them, so that it vouches for a whole folder.

One format for checkpoints and datasets.  It is at home here because the rooms of both need it, and neither may import the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.core import records
from job.storage.files import encoded, sha256, sha256_of

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What is listed for one file."""

    size: int
    """bytes"""
    sha256: str
    """64 hexadecimal digits"""

    @classmethod
    def of(cls, content: Path | bytes) -> "FileEntry":
        if isinstance(content, bytes):
            return cls(size=len(content), sha256=sha256_of(content))
        return cls(size=content.stat().st_size, sha256=sha256(content))

    def wrong_digest(self, path: Path) -> str | None:
        """The SHA-256 of the file where it is another one than is listed; None: the file is right."""
        found = sha256(path)
        return None if found == self.sha256 else found


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files of a folder by their paths below it."""

    files: Mapping[str, FileEntry]
    fingerprint: str | None = None
    """of a dataset: see `Dataset.fingerprint`"""

    @classmethod
    def of_folder(cls, folder: Path, paths: Iterable[Path]) -> "Manifest":
        """Of these files below the folder."""
        return cls(files={path.relative_to(folder).as_posix(): FileEntry.of(path) for path in paths})

    @classmethod
    def of_record(cls, record: records.Manifest) -> "Manifest":
        """From a record that was checked."""
        return cls(files=parse_files(record["files"]))

    def encode(self) -> bytes:
        identity = {} if self.fingerprint is None else {"fingerprint": self.fingerprint}
        return encoded({**identity, "files": files_as_object(self.files)})


def parse_files(found: Mapping[str, records.FileEntry]) -> dict[str, FileEntry]:
    """Name → entry, from a record that was checked."""
    return {name: FileEntry(**entry) for name, entry in found.items()}


def files_as_object(files: Mapping[str, FileEntry]) -> dict[str, dict[str, Any]]:
    """For JSON: what `parse_files` reads."""
    return {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in files.items()}
