"""Uploads in the background: what a run leaves waits in a local folder, laid out as in the store, and is delivered in order.

Checkpoints have a thread, and all else has one: what the sampler saw does not wait behind half a gigabyte.  Training waits only when
more than `limit` bytes are waiting.  A store that is down is tried again until it is back; one that refuses for good, and a newer attempt
on the run, end the run: `failure` tells the loop.
"""

import fcntl
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from job.core.exits import Exit, JobError
from job.storage.files import sha256
from job.storage.folder import FolderStore
from job.runs.run import Run
from job.storage.files import encoded
from job.storage.files import TEMPORARY, local_errors, new_file_beside
from job.storage.errors import StoreError

LONGEST_PAUSE = 10.0
"""seconds between two tries of a store that is down"""
HALT_SECONDS = 0.5
"""that the end of a delivery is waited for"""


@dataclass(kw_only=True, eq=False)
class Parcel:
    """Files that go to the store together, in this order."""

    files: list[Path]
    step: int | None = None
    """of a checkpoint"""
    best: str | None = None
    size: int = 0
    """bytes"""
    begun: float | None = None
    """time.monotonic() when its delivery began"""

    @property
    def manifest(self) -> Path | None:
        """Of a checkpoint; written when its delivery begins."""
        return None if self.step is None else self.files[0].parent / "MANIFEST.json"

    @property
    def all_files(self) -> list[Path]:
        return self.files if self.manifest is None or self.manifest in self.files else [*self.files, self.manifest]


class Spool:
    """`parent`: where the folder is made; None: beside a local store, else where temporary files go.  Raises StoreError."""

    def __init__(self, run: Run, parent: Path | None, *, limit: int, say: Callable[[str], None]) -> None:
        self.run, self.limit, self.say = run, limit, say
        self._local = isinstance(run.store, FolderStore)
        self._parent = parent or (run.store.root if isinstance(run.store, FolderStore) else Path(tempfile.gettempdir()))
        self.folder, self._lock = self._claim_folder()
        self.failure: JobError | None = None
        self.stored_step = -1
        """of the newest checkpoint that this attempt has in the store"""
        self.upload_seconds: float | None = None
        """that the delivery of the last checkpoint took"""
        self._checkpoints: deque[Parcel] = deque()
        self._rest: deque[Parcel] = deque()
        self._away: set[bool] = set()
        """of checkpoints (False) and of the rest (True): whose last try met a store that was down"""
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._delivered: set[Path] = set()
        self._threads = [
            threading.Thread(target=self._work, args=(queue,), name="spool", daemon=True) for queue in (self._checkpoints, self._rest)
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
            return sum(parcel.size for parcel in self._waiting())

    def wait_for_room(self, size: int, stop: Callable[[], bool]) -> float:
        """Wait until `size` more bytes are within the limit, the spool is empty, or `stop` comes true; returns the seconds."""
        begun, said = time.monotonic(), False
        while (waiting := self.waiting_bytes) and waiting + size > self.limit and not stop():
            self.check()
            if not said:
                self.say(f"waiting for the store: {waiting / 1e6:.0f} MB are not yet uploaded (spool limit {self.limit / 1e6:.0f} MB)")
                said = True
            time.sleep(0.05)
        return time.monotonic() - begun

    def add_checkpoint(self, folder: Path, step: int, best: str | None) -> None:
        """Hand over a complete folder of `checkpoints/`."""
        self._add(Parcel(files=sorted(folder.iterdir()), step=step, best=best))

    def add(self, *files: Path) -> None:
        """Hand over files made at `path(…)`."""
        self._add(Parcel(files=list(files)))

    def drop_stale_checkpoints(self) -> None:
        """Time is short: of those whose delivery has not begun only the newest is stored, and the one that it calls the best."""
        with self._changed:
            waiting = [*self._checkpoints]
            dropped = [each for each in waiting[:-1] if each.begun is None and each.files[0].parent.name != waiting[-1].best]
            for parcel in dropped:
                self._checkpoints.remove(parcel)
        for parcel in dropped:
            shutil.rmtree(parcel.files[0].parent, ignore_errors=True)

    def begun_checkpoint_age(self) -> float | None:
        """Seconds since the delivery of the checkpoint that is on its way began; None: none is."""
        with self._changed:
            return next((time.monotonic() - parcel.begun for parcel in self._checkpoints if parcel.begun is not None), None)

    def check(self) -> None:
        """Raises what ended the delivery: JobError 77 or 0, or a StoreError that trying again will not mend."""
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
            files = [file for parcel in self._waiting() for file in parcel.all_files if file not in self._delivered]
        return [file.relative_to(self.folder).as_posix() for file in files]

    def halt(self) -> None:
        """End the delivery, so that what is missing stays missing.  An upload that hangs is not waited for."""
        self._close()
        end = time.monotonic() + HALT_SECONDS
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))

    def close(self, *, keep: bool = False) -> Path | None:
        """`keep`: the folder stays, under a name that no later attempt clears away, and is returned; `alexnet sync` makes the manifests
        that are not there."""
        self._close()
        kept = None
        if keep and self.folder.exists():
            kept = self._parent / f"alexnet-kept-{self.run.id}-{secrets.token_hex(3)}"
            self.folder.rename(kept)
            (kept / ".lock").unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        return kept

    def _close(self) -> None:
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    def _add(self, parcel: Parcel) -> None:
        parcel.size = sum(file.stat().st_size for file in parcel.files)
        with self._changed:
            (self._rest if parcel.step is None else self._checkpoints).append(parcel)
            self._changed.notify_all()

    def _waiting(self) -> list[Parcel]:
        return [*self._checkpoints, *self._rest]

    def _work(self, queue: deque[Parcel]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: queue or self._closing.is_set())
                if self._closing.is_set():
                    return
                parcel = queue[0]
                parcel.begun = parcel.begun or time.monotonic()
            try:
                if not self._tried(parcel):
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

    def _tried(self, parcel: Parcel) -> bool:
        """Deliver, as often as it takes; False when closed meanwhile."""
        pause = 0.5
        while not self._closing.is_set():
            try:
                self._deliver(parcel)
                self._tell(parcel, away=False)
                return True
            except StoreError as error:
                if not error.transient:
                    raise
                self._tell(parcel, away=True, why=str(error))
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _tell(self, parcel: Parcel, *, away: bool, why: str = "") -> None:
        """Once when the first queue is held up, once when none is any more."""
        with self._changed:
            before = bool(self._away)
            (self._away.add if away else self._away.discard)(parcel.step is None)
            after = bool(self._away)
        if after and not before:
            self.say(f"the store does not take uploads, trying again and again; training goes on. {why}")
        elif before and not after:
            self.say("the store is back: uploads go on")

    def _deliver(self, parcel: Parcel) -> None:
        self.run.look()
        _write_manifest(parcel)
        for file in parcel.files:
            if file not in self._delivered:
                self._deliver_file(file)
        if parcel.step is not None:
            assert parcel.begun is not None
            self.stored_step, self.upload_seconds = parcel.step, time.monotonic() - parcel.begun
            shutil.rmtree(parcel.files[0].parent, ignore_errors=True)
            self.run.prune(parcel.best)

    def _deliver_file(self, file: Path) -> None:
        key = file.relative_to(self.folder).as_posix()
        if self._local:
            self.run.store.move(file, key)
        else:  # a bucket's copy may be lost with its server: ours stays until the parcel is whole
            self.run.store.put(key, file)
        self._delivered.add(file)

    def _claim_folder(self) -> tuple[Path, IO[bytes]]:
        """A new locked folder; what killed attempts of this run left here is removed."""
        stem = f"{TEMPORARY}spool-{self.run.id}-"  # names of this form are invisible in a store
        for left in self._parent.glob(f"{stem}*"):
            with _locked(left) as lock:
                if lock:
                    shutil.rmtree(left, ignore_errors=True)
        folder = self._parent / f"{stem}{secrets.token_hex(3)}"
        with local_errors(folder):
            folder.mkdir(parents=True)
            lock_file = (folder / ".lock").open("wb")
            fcntl.flock(lock_file, fcntl.LOCK_EX)
        return folder, lock_file


class _locked:  # noqa: N801  a context manager
    """The lock of a spool's folder, or None where a living process holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"

    def __enter__(self) -> IO[bytes] | None:
        try:
            self._file = self._path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        return self._file

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _write_manifest(parcel: Parcel) -> None:
    """The manifest as the last file of the parcel.  Hashing happens here, beside the training."""
    path = parcel.manifest
    if path is None or path in parcel.files:
        return
    listed = {file.name: {"size": file.stat().st_size, "sha256": sha256(file)} for file in parcel.files}
    with new_file_beside(path) as temporary:  # half a manifest would be taken for a damaged one
        temporary.write_bytes(encoded({"files": listed}))
        temporary.replace(path)
    parcel.files.append(path)
