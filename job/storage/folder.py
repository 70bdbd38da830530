"""The store in a folder: a key is a path below it.

An object appears by a rename, or by a hard link where there must be none yet; both are atomic, on file servers too.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from stat import S_ISDIR
from typing import BinaryIO

from job.core.exits import Exit, JobError
from job.storage.errors import NotFound, StoreError
from job.storage.files import TEMPORARY, local_errors, new_file_beside
from job.storage.store import Entry, Store, checked, checked_folder, checked_prefix, is_key

BLOCK = 1 << 20
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""what a path says that has no object: as on S3, `a` is none where only `a/b` is"""


class FolderStore(Store):
    """The folder is made by the first `put`; folders below it come and go with their objects."""

    def __init__(self, root: Path, url: str | None = None) -> None:
        self.url = str(root) if url is None else url
        self.root = root.absolute()

    @cached_property
    def conditional(self) -> bool:
        """False on the few file systems without hard links."""
        with new_file_beside(self.root / "link") as temporary:
            link = temporary.with_name(f"{temporary.name}-link")
            try:
                os.link(temporary, link)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return False
            link.unlink()
            return True

    def put(self, key: str, data: bytes | Path) -> None:
        with self._written(key, data) as temporary:
            temporary.replace(self.path(key))

    def move(self, path: Path, key: str) -> None:
        try:
            with new_file_beside(self.path(key)):
                _synchronise(path)
                path.replace(self.path(key))
        except StoreError as error:
            if getattr(error.__cause__, "errno", None) != errno.EXDEV:
                raise
            super().move(path, key)  # from another file system

    def folders(self, prefix: str = "") -> list[str]:
        folder = self.root / checked_folder(prefix)
        names = []
        with local_errors(folder), suppress(*ABSENT):
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
        return sorted(name for name in names if any(is_key(self._key(path)) for path in self._files(f"{prefix}{name}/")))

    def delete(self, key: str) -> None:
        path = self.path(key)
        with local_errors(path), suppress(*ABSENT):
            path.unlink()
        for folder in path.parents[: len(key.split("/")) - 1]:
            with suppress(OSError):  # it holds something, or another process has cleared it away
                folder.rmdir()

    def now(self) -> float:
        """The time that the file system gives a new file, which is the file server's where there is one."""
        if self.root.is_dir():
            with suppress(StoreError, FileNotFoundError), new_file_beside(self.root / "now") as temporary:
                return temporary.stat().st_mtime
        return time.time()

    def abort_uploads(self, prefix: str) -> int:
        unfinished = [path for path in self._files(checked_prefix(prefix)) if path.name.startswith(TEMPORARY)]
        for path in unfinished:
            with local_errors(path):
                path.unlink(missing_ok=True)
        return len(unfinished)

    def _copy(self, key: str, file: BinaryIO) -> None:
        for block in self._blocks(key):  # errors of `file`, which lies elsewhere, are for the caller
            file.write(block)

    def _blocks(self, key: str) -> Iterator[bytes]:
        path = self.path(key)
        with local_errors(path):
            try:
                with path.open("rb") as source:
                    yield from iter(partial(source.read, BLOCK), b"")
            except ABSENT:
                raise NotFound(f"{self.url}: no object {key}") from None

    def _create(self, key: str, data: bytes) -> bool:
        target = self.path(key)
        with self._written(key, data) as temporary:
            try:
                if self.conditional:
                    os.link(temporary, target)
                elif target.exists():
                    return False
                else:
                    temporary.replace(target)
            except FileExistsError:
                return False
            return True

    def _entries(self, prefix: str) -> Iterator[Entry]:
        if "/" in prefix:
            self.path(prefix.rpartition("/")[0])
        for path in self._files(prefix):
            if path.is_symlink() and is_key(self._key(path)):
                self.path(self._key(path))
            with local_errors(path), suppress(FileNotFoundError):  # deleted since it was listed
                status = path.stat()
                if not S_ISDIR(status.st_mode):
                    yield Entry(key=self._key(path), size=status.st_size, modified=status.st_mtime)

    def _files(self, prefix: str) -> Iterator[Path]:
        """Files, and links to folders, whose paths below the root begin with `prefix`, unfinished ones included."""
        folder = self.root / prefix.rpartition("/")[0]
        with local_errors(folder):
            for parent, folders, names in os.walk(folder, onerror=_raise_unless_gone):
                links = (path for name in folders if (path := Path(parent, name)).is_symlink())
                for path in (*(Path(parent, name) for name in names), *links):
                    if self._key(path).startswith(prefix):
                        yield path

    def path(self, key: str) -> Path:
        """Where the object lies.  Raises JobError (65) where a symbolic link leads out of the top folder that the key names."""
        path = self.root / checked(key)
        top = self.root / key.partition("/")[0]
        if not path.resolve().is_relative_to(top.resolve()):
            raise JobError(
                Exit.DATA,
                f"{path} leads out of {top} by a symbolic link. Expected files and folders, as a run leaves them. Remove the link.",
            )
        return path

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    @contextmanager
    def _written(self, key: str, data: bytes | Path) -> Iterator[Path]:
        """A file with the data, safe on the disk, that does not have its name yet."""
        with new_file_beside(self.path(key)) as temporary:
            if isinstance(data, Path):
                with data.open("rb") as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, BLOCK)
            else:
                temporary.write_bytes(data)
            _synchronise(temporary)
            yield temporary


def _synchronise(path: Path) -> None:
    """Have the file on the disk, not just in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, ABSENT):
        raise error
