"""Uploads in the background: what a run leaves waits in a local folder, laid out as in the store, and is delivered in order.

Checkpoints have a thread, and all else has one: what the sampler saw does not wait behind half a gigabyte.  Training waits only when
more than `limit` bytes are waiting.  A store that is down is tried again until it is back; one that refuses for good, and a newer attempt
on the run, end the run: `failure` tells the loop.
"""

import errno
import fcntl
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from job.core.exits import Exit, JobError
from job.runs.run import Run
from job.storage.errors import StoreError
from job.storage.files import TEMPORARY, local_errors, new_file_beside
from job.storage.folder import FolderStore
from job.storage.manifest import MANIFEST, Manifest

LONGEST_PAUSE = 10.0
"""seconds between two tries of a store that is down"""
HALT_SECONDS = 0.5
"""that the end of a delivery is waited for"""
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""what flock says on a file system without locks"""


@dataclass(kw_only=True, eq=False)
class Upload:
    """Files that go to the store together, in this order."""

    files: list[Path]
    size: int
    """bytes"""
    step: int | None = None
    """of a checkpoint; None: other files"""
    best: str | None = None
    """name of the checkpoint that this one calls the best"""
    begun: float | None = None
    """time.monotonic() when its delivery began"""

    @property
    def folder(self) -> Path:
        """Of its first file; a checkpoint's files have one of their own."""
        return self.files[0].parent

    @property
    def manifest(self) -> Path | None:
        """Of a checkpoint; written when its upload begins."""
        return None if self.step is None else self.folder / MANIFEST

    @property
    def all_files(self) -> list[Path]:
        return self.files if self.manifest is None or self.manifest in self.files else [*self.files, self.manifest]


class Spool:
    """Takes files with `add` and `add_checkpoint`, which do not wait, until `close` or `leave_undelivered`.

    `parent`: where the folder is made; None: beside a local store, else where temporary files go.  `limit`: bytes that may wait before
    `wait_for_room` does.  Raises StoreError.
    """

    def __init__(self, run: Run, parent: Path | None, *, limit: int, say: Callable[[str], None]) -> None:
        self.run, self.limit, self.say = run, limit, say
        self._parent = parent or (run.store.root if isinstance(run.store, FolderStore) else Path(tempfile.gettempdir()))
        self.folder, self._lock = self._claim_folder()
        self.failure: JobError | None = None
        """what ended the delivery: 77 or 0, or a StoreError that trying again will not mend"""
        self.stored_step = -1
        """of the newest checkpoint that this attempt has in the store"""
        self.upload_seconds: float | None = None
        """that the delivery of the last checkpoint took"""
        self._checkpoints: deque[Upload] = deque()
        self._rest: deque[Upload] = deque()
        self._retrying: set[str] = set()
        """names of the threads whose last try met a store that was down"""
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._delivered: set[Path] = set()
        self._threads = [
            threading.Thread(target=self._work, args=(queue,), name=f"spool {name}", daemon=True)
            for name, queue in (("checkpoints", self._checkpoints), ("rest", self._rest))
        ]
        for thread in self._threads:
            thread.start()

    def path(self, *parts: str) -> Path:
        """The place of an object of the run, its folder made."""
        path = self.folder / self.run.key(*parts)
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def waiting_bytes(self) -> int:
        with self._changed:
            return sum(upload.size for upload in self._waiting())

    def wait_for_room(self, size: int, stop: Callable[[], bool]) -> float:
        """Wait until `size` more bytes are within the limit, the spool is empty, or `stop` comes true; returns the seconds."""
        begun, announced = time.monotonic(), False
        while (waiting := self.waiting_bytes) and waiting + size > self.limit and not stop():
            self.check()
            if not announced:
                self.say(f"waiting for the store: {waiting / 1e6:.0f} MB are not yet uploaded (spool limit {self.limit / 1e6:.0f} MB)")
                announced = True
            time.sleep(0.05)
        return time.monotonic() - begun

    def add_checkpoint(self, folder: Path, step: int, best: str | None) -> None:
        """Hand over a complete folder of `checkpoints/`.  `best`: the name of the best checkpoint so far, which stays in the store."""
        files = sorted(folder.iterdir())
        self._add(self._checkpoints, Upload(files=files, step=step, best=best, size=_bytes_of(files)))

    def add(self, *files: Path) -> None:
        """Hand over files made at `path(…)`."""
        self._add(self._rest, Upload(files=[*files], size=_bytes_of(files)))

    def drop_stale_checkpoints(self) -> None:
        """Time is short: of those whose delivery has not begun only the newest is stored, and the one that it calls the best."""
        with self._changed:
            waiting = [*self._checkpoints]
            dropped = [each for each in waiting[:-1] if each.begun is None and each.folder.name != waiting[-1].best]
            for upload in dropped:
                self._checkpoints.remove(upload)
        for upload in dropped:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def begun_checkpoint_age(self) -> float | None:
        """Seconds since the delivery of the checkpoint that is on its way began; None: none is."""
        with self._changed:
            return next((time.monotonic() - upload.begun for upload in self._checkpoints if upload.begun is not None), None)

    def check(self) -> None:
        """Raises `failure`."""
        if self.failure:
            raise self.failure

    def flush(self, end: Callable[[], float]) -> bool:
        """Wait until everything is stored; False when the clock (time.monotonic) passes `end()` first.  Raises as `check`."""
        with self._changed:
            while self._waiting():
                self.check()
                if time.monotonic() >= end():
                    return False
                self._changed.wait(0.1)
        self.check()
        return True

    def missing(self) -> list[str]:
        """Keys of the objects that are not in the store yet."""
        with self._changed:
            files = [file for upload in self._waiting() for file in upload.all_files if file not in self._delivered]
        return [file.relative_to(self.folder).as_posix() for file in files]

    def halt(self) -> None:
        """End the delivery, so that what is missing stays missing.  An upload that hangs is not waited for."""
        self._end_delivery()
        end = time.monotonic() + HALT_SECONDS
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def close(self) -> None:
        """End the delivery; the folder and what was not delivered are gone."""
        self._end_delivery()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def leave_undelivered(self) -> Path | None:
        """End the delivery; the folder stays under a name that no later attempt clears away, which is returned.  None: it is gone.

        `alexnet sync` delivers it, and makes the manifests that are not there.
        """
        self._end_delivery()
        if not self.folder.exists():
            return None
        undelivered = self._parent / f"alexnet-kept-{self.run.id}-{secrets.token_hex(3)}"
        self.folder.rename(undelivered)
        (undelivered / ".lock").unlink(missing_ok=True)
        self._lock.close()
        return undelivered

    def _end_delivery(self) -> None:
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    def _add(self, queue: deque[Upload], upload: Upload) -> None:
        with self._changed:
            queue.append(upload)
            self._changed.notify_all()

    def _waiting(self) -> list[Upload]:
        return [*self._checkpoints, *self._rest]

    def _work(self, queue: deque[Upload]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: queue or self._closing.is_set())
                if self._closing.is_set():
                    return
                upload = queue[0]
                upload.begun = upload.begun or time.monotonic()
            try:
                if not self._retry_until_delivered(upload):
                    return
            except JobError as error:
                self.failure = error
            except Exception as error:  # a thread that died silently would lose results
                self.failure = JobError(Exit.INTERNAL, f"the upload failed in an unforeseen way: {type(error).__name__}: {error}")
            with self._changed:
                if self.failure is None:
                    queue.popleft()
                self._changed.notify_all()
            if self.failure:
                return

    def _retry_until_delivered(self, upload: Upload) -> bool:
        """False when closed meanwhile."""
        pause = 0.5
        while not self._closing.is_set():
            try:
                self._deliver(upload)
                self._announce_outage(None)
                return True
            except StoreError as error:
                if not error.transient:
                    raise
                self._announce_outage(error)
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _announce_outage(self, error: StoreError | None) -> None:
        """Once when the first thread is held up, once when none is any more."""
        with self._changed:
            before = bool(self._retrying)
            (self._retrying.add if error else self._retrying.discard)(threading.current_thread().name)
            after = bool(self._retrying)
        if after and not before:
            self.say(f"the store does not take uploads, trying again and again; training goes on. {error}")
        elif before and not after:
            self.say("the store is back: uploads go on")

    def _deliver(self, upload: Upload) -> None:
        self.run.raise_if_superseded()
        _write_manifest(upload)
        for file in upload.files:
            if file not in self._delivered:
                self._deliver_file(file)
        if upload.step is not None:
            assert upload.begun is not None
            self.stored_step, self.upload_seconds = upload.step, time.monotonic() - upload.begun
            shutil.rmtree(upload.folder, ignore_errors=True)
            self.run.prune(upload.best)

    def _deliver_file(self, file: Path) -> None:
        key = file.relative_to(self.folder).as_posix()
        if isinstance(self.run.store, FolderStore):
            self.run.store.move(file, key)
        else:  # a bucket's copy may be lost with its server: ours stays until the upload is whole
            self.run.store.put(key, file)
        self._delivered.add(file)

    def _claim_folder(self) -> tuple[Path, IO[bytes]]:
        """A new locked folder; what killed attempts of this run left here is removed."""
        stem = f"{TEMPORARY}spool-{self.run.id}-"  # names of this form are invisible in a store
        for leftover in self._parent.glob(f"{stem}*"):
            with _locked(leftover) as free:
                if free:
                    shutil.rmtree(leftover, ignore_errors=True)
        folder = self._parent / f"{stem}{secrets.token_hex(3)}"
        with local_errors(folder):
            folder.mkdir(parents=True)
            lock_file = (folder / ".lock").open("wb")
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise _no_locks(self._parent, error) if error.errno in NO_LOCKS else error from None
        return folder, lock_file


def _no_locks(parent: Path, error: OSError) -> StoreError:
    return StoreError(
        Exit.CONFIGURATION,
        f"--spool {parent}: its file system has no file locks (flock: {error.strerror}), without which two attempts could clear away each "
        "other's uploads. Expected a local disk, or a file server with locks. Choose another folder with --spool.",
    )


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a spool's folder; False where a living process holds it."""
    try:
        file = (folder / ".lock").open("ab")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _bytes_of(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _write_manifest(upload: Upload) -> None:
    """The manifest as the last file of the upload.  Hashing happens here, beside the training."""
    path = upload.manifest
    if path is None or path in upload.files:
        return
    manifest = Manifest.of_folder(upload.folder, upload.files)
    with new_file_beside(path) as temporary:  # half a manifest would be taken for a damaged one
        temporary.write_bytes(manifest.encode())
        temporary.replace(path)
    upload.files.append(path)
