"""The folders on this disk in which uploads wait: one for each attempt, locked while it lives, and what attempts that died left there.

A folder's name holds the run's id and a digest of which run it is (store, recipe, seed, data), so that nobody takes up what belongs to
another run of the same name.  A checkpoint that is newer than the store's is continued from and delivered; the rest goes once the run
is beyond it.  docs/design.md, "What an attempt leaves on its disk".
"""

import errno
import fcntl
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from job.core import records
from job.core.exits import Exit, JobError
from job.core.records import RunRecord
from job.runs.checkpoint import CheckpointName
from job.runs.inventory import manifest_for
from job.runs.reading import record
from job.runs.run import Checkpoint, Run
from job.storage.errors import StoreError
from job.storage.files import TEMPORARY, encoded, local_errors, sha256_of
from job.storage.folder import FolderStore
from job.storage.manifest import MANIFEST, Manifest

WORK = ".tmp-work"
"""folder of a spool for what is of no worth to anybody else"""
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""what flock says on a file system without locks"""


class SpoolFolders:
    """Of one run.  `parent`: where they lie; None: beside a local store, else where temporary files go."""

    def __init__(self, run: Run, identity: RunRecord, parent: Path | None) -> None:
        self.run = run
        self.parent = parent or (run.store.root if isinstance(run.store, FolderStore) else Path(tempfile.gettempdir()))
        store = str(run.store.root) if isinstance(run.store, FolderStore) else run.store.url.rstrip("/")
        name = f"{run.id}-{sha256_of(encoded({'store': store, 'record': identity}))[:8]}"
        self._at_work = f"{TEMPORARY}spool-{name}-"  # names of this form are invisible in a store
        self._undelivered = f"alexnet-kept-{name}-"

    def new(self) -> tuple[Path, IO[bytes]]:
        """A folder of its own for this process, and its lock.  Raises StoreError."""
        folder = self.parent / f"{self._at_work}{secrets.token_hex(3)}"
        with local_errors(folder):
            folder.mkdir(parents=True)
            lock = (folder / ".lock").open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise _no_locks(self.parent, error) if error.errno in NO_LOCKS else error from None
        return folder, lock

    def undelivered(self) -> Path:
        """A new name for a folder that people are to find."""
        return self.parent / f"{self._undelivered}{secrets.token_hex(3)}"

    def leftovers(self) -> "Leftovers":
        """What no living process holds, to be used in a `with`."""
        pattern = re.compile(f"({re.escape(self._at_work)}|{re.escape(self._undelivered)})[0-9a-f]{{6}}")
        found = sorted(path for path in self.parent.glob("*") if pattern.fullmatch(path.name)) if self.parent.is_dir() else []
        return Leftovers(self.run, [(path, lock) for path in found if (lock := _lock(path)) is not None])


class Leftovers:
    """Folders of attempts that are no longer alive, locked until the end of the `with`."""

    def __init__(self, run: Run, folders: list[tuple[Path, IO[bytes]]]) -> None:
        self.run = run
        self._folders = [folder for folder, _ in folders]
        self._locks = [lock for _, lock in folders]
        for folder in self._folders:
            shutil.rmtree(folder / WORK, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for lock in self._locks:
            lock.close()

    @property
    def checkpoints(self) -> dict[CheckpointName, Path]:
        """Those that were written to their end: a folder gets its name afterwards."""
        paths = (path for folder in self._folders for path in (folder / self.run.key("checkpoints")).glob("step-*"))
        return {name: path for path in paths if (name := CheckpointName.parse(path.name)) is not None}

    @property
    def resource_logs(self) -> list[Path]:
        """Segments that are whole."""
        paths = (path for folder in self._folders for path in (folder / self.run.key("attempts")).glob("*/resources-*.jsonl"))
        return [path for path in sorted(paths) if _is_whole(path)]

    def verified(self, name: CheckpointName) -> Checkpoint:
        """Raises JobError: 65 where it is damaged.  One without digests, killed before they were made, has to be readable to its end."""
        folder = self.checkpoints[name]
        try:
            path = folder / MANIFEST
            found = Manifest.of_record(record(records.Manifest, path.read_bytes(), str(path))) if path.exists() else manifest_for(folder)
            if found is None:
                raise JobError(Exit.DATA, "it is not whole")
            return self.run.verified(name, folder, found, str(folder))
        except OSError as error:
            raise JobError(Exit.DATA, f"it cannot be read ({error})") from error

    def newest_checkpoint(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The greatest one that verifies; a line says why another one is left out."""
        for name, path in sorted(self.checkpoints.items(), reverse=True):
            try:
                return self.verified(name)
            except JobError as error:
                if error.code is not Exit.DATA:
                    raise
                say(f"checkpoint {name} in {path} is left out: {error}")
        return None

    def clear(self, *, run_finished: bool) -> None:
        """Remove the folders; of a run that is not finished, final results that `alexnet sync` could deliver stay."""
        for folder in self._folders:
            if run_finished or not (folder / self.run.key("summary.json")).exists():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                shutil.rmtree(folder / self.run.key("checkpoints"), ignore_errors=True)


def _is_whole(path: Path) -> bool:
    """False for a segment in whose middle its writer was killed."""
    try:
        text = path.read_text()
        return text.endswith("\n") and all(isinstance(json.loads(line), dict) for line in text.splitlines())
    except (OSError, ValueError):
        return False


def _lock(folder: Path) -> IO[bytes] | None:
    """None where a living process holds it."""
    try:
        file = (folder / ".lock").open("ab")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _no_locks(parent: Path, error: OSError) -> StoreError:
    return StoreError(
        Exit.CONFIGURATION,
        f"--spool {parent}: its file system has no file locks (flock: {error.strerror}), without which two attempts could clear away each "
        "other's uploads. Expected a local disk, or a file server with locks. Choose another folder with --spool.",
    )
