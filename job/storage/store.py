"""Where results and datasets live: a folder or a bucket, behind one small interface.

`open_store("runs")` and `open_store("s3://bucket/prefix")` keep the same promises, which tests/contract/test_store.py checks on both: an
object is visible only whole, `put_if_absent` has one winner, and a failure says what to do and whether trying again may help.
"""

import time
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from job.core.exits import Exit, JobError
from job.storage.errors import NotFound, StoreError
from job.storage.files import TEMPORARY, local_errors, new_file_beside
from job.storage.versioning import Versioning

TRIES = 5
"""how often `put_if_absent` is tried while the store neither stores the object nor shows another one"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object in a listing."""

    key: str
    size: int
    """bytes"""
    modified: float
    """seconds since the epoch, by the store's clock"""


class Store(ABC):
    """Objects under keys such as `run/checkpoints/state.json`, relative to where the store was opened.

    Keys are names joined by "/".  ValueError for a key that is empty or absolute, or holds "..", a backslash, a control character or
    a name that begins with `.tmp-`: the programmer's mistake.  A key must not be another
    one's folder: `a` and `a/b` do not go together everywhere.
    Every method may raise StoreError.  Safe to use from several threads.

    Some servers (Garage, `rclone serve s3`) ignore the condition of a put and do not say so.  There `conditional` is False and
    `put_if_absent` promises less: of writers at the same moment the last one wins, and all believe that they did.  One that comes
    later still finds the object and leaves it alone.
    """

    url: str
    """as the user wrote it, never with credentials"""

    @property
    @abstractmethod
    def conditional(self) -> bool:
        """Is `put_if_absent` exclusive?  Found out once, by a race; a store that cannot be asked raises, and is asked again next time."""

    def get(self, key: str, limit: int | None = None) -> bytes:
        """The whole object.  Raises NotFound, and JobError (65) for one of more than `limit` bytes, after no more than these."""
        file = BytesIO() if limit is None else _Limited(limit)
        try:
            self._copy(checked(key), file)
        except _TooLong:
            message = f"{self.url}/{key} is longer than {limit} bytes, which no object of its kind is. It is damaged, or somebody's own."
            raise JobError(Exit.DATA, message) from None
        return file.getvalue()

    def download(self, key: str, path: Path) -> None:
        """The object as a file, which appears only whole and replaces one that is there.  Raises NotFound."""
        checked(key)
        with new_file_beside(path) as temporary:
            with temporary.open("wb") as file:
                self._copy(key, file)
            temporary.replace(path)

    @abstractmethod
    def put(self, key: str, data: bytes | Path) -> None:
        """Store bytes, or a file without reading it into memory.  Whoever reads meanwhile finds what was there before.

        Raises FileNotFoundError when there is no such file to store.
        """

    def move(self, path: Path, key: str) -> None:
        """`put` the file; afterwards it is gone.  When this raises, it is still there."""
        self.put(key, path)
        with local_errors(path):
            path.unlink()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store the bytes unless the key has an object.  True: these bytes are there.  False: others are, untouched."""
        failure = None
        for tried in range(TRIES):
            time.sleep(0.2 * tried)
            with suppress(NotFound):  # looked for before the first try too: there are stores that ignore the condition
                return self.get(key) == data
            try:
                if self._create(checked(key), data):
                    return True
            except StoreError as error:
                if not error.transient:
                    raise
                failure = error  # it may have been stored, and only the reply was lost
        raise failure or StoreError(
            Exit.NOT_STORED,
            f"{self.url}/{key}: {TRIES} times neither stored nor there. Expected one of the two. Try again.",
            transient=True,
        )

    @abstractmethod
    def folders(self, prefix: str = "") -> list[str]:
        """The names between `prefix`, which is "" or ends in "/", and the next "/", sorted.

        Some servers name a folder already while its first object is being stored, and for a while after its last one was deleted.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since the epoch by the store's clock, to compare with `Entry.modified`."""

    @abstractmethod
    def abort_uploads(self, prefix: str) -> int:
        """Drop what writers that died left half-written under `prefix`; returns how many.  A writer still at work there will fail."""

    def versioning(self) -> Versioning:
        """Does the store keep what is deleted?  Raises nothing."""
        return Versioning(enabled=False)

    @abstractmethod
    def _copy(self, key: str, file: BinaryIO) -> None:
        """Write the whole object to the file, which is empty.  Raises NotFound."""

    @abstractmethod
    def _create(self, key: str, data: bytes) -> bool:
        """One try of `put_if_absent`.  False: there seems to be an object."""

    @abstractmethod
    def _entries(self, prefix: str) -> Iterator[Entry]:
        """As `list`, in any order.  Names that are no keys of ours, such as a console's folder markers, may be among them."""

    def list(self, prefix: str = "") -> list[Entry]:
        """All objects whose keys begin with `prefix`, sorted by key."""
        found = (entry for entry in self._entries(checked_prefix(prefix)) if is_key(entry.key))
        return sorted(found, key=lambda entry: entry.key)


class _TooLong(Exception):  # noqa: N818  turned into a JobError that names the object
    """More than the limit has come."""


class _Limited(BytesIO):
    """Memory for so many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise _TooLong
        return super().write(data)


def is_key(key: str) -> bool:
    def is_name(part: str) -> bool:
        return part not in ("", ".", "..") and not part.startswith(TEMPORARY)

    return all(map(is_name, key.split("/"))) and not any(c == "\\" or unicodedata.category(c) in ("Cc", "Cs") for c in key)


def checked(key: str) -> str:
    """The key itself; ValueError if it is none."""
    if not is_key(key):
        raise ValueError(
            f"a key is names joined by '/', without '.', '..', {TEMPORARY}*, backslash and control characters. Received: {key!r}"
        )
    return key


def checked_prefix(prefix: str) -> str:
    if prefix:
        checked(prefix.removesuffix("/"))
    return prefix


def checked_folder(prefix: str) -> str:
    if prefix and not prefix.endswith("/"):
        raise ValueError(f"a folder's prefix is empty or ends in '/'. Received: {prefix!r}")
    return checked_prefix(prefix)
