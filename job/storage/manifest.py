"""MANIFEST.json: the sizes and digests of the files beside it, stored after them, so that it vouches for a whole folder.

One format for checkpoints and datasets.  It is at home here because the rooms of both need it, and neither may import the other.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.core.exits import Exit, JobError
from job.storage.files import encoded, sha256, sha256_of

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What is listed for one file."""

    size: int
    """bytes"""
    sha256: str
    """64 hexadecimal digits"""

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 0:
            raise ValueError(f"size = {self.size!r}: expected a whole number of bytes")
        if not isinstance(self.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 = {self.sha256!r}: expected 64 hexadecimal digits")

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
    def parse(cls, content: Any, where: str) -> "Manifest":
        """From JSON as bytes, or from the object in it.  Raises JobError (65) beginning with `where`, the name of what is damaged."""
        try:
            found = json.loads(content) if isinstance(content, bytes) else content
            return cls(files=parse_files(found["files"]), fingerprint=found.get("fingerprint"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise JobError(Exit.DATA, f"{where} does not list files and digests") from None

    def encode(self) -> bytes:
        identity = {} if self.fingerprint is None else {"fingerprint": self.fingerprint}
        return encoded({**identity, "files": files_as_object(self.files)})


def parse_files(found: Any) -> dict[str, FileEntry]:
    """Name → entry, from their JSON object.  ValueError, KeyError, TypeError or AttributeError where it is damaged."""
    return {str(name): FileEntry(size=entry["size"], sha256=entry["sha256"]) for name, entry in found.items()}


def files_as_object(files: Mapping[str, FileEntry]) -> dict[str, dict[str, Any]]:
    """For JSON: what `parse_files` reads."""
    return {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in files.items()}
