"""Uploads in the background: what a run leaves waits in a local folder, laid out as in the store, and is delivered in order.

Checkpoints have a thread, and all else has one: what the sampler saw does not wait behind half a gigabyte.  A third one makes digests as
soon as there is a checkpoint, so that the next attempt on this disk can trust it should this process be killed.  Training waits only when
more than `limit` bytes are waiting.  A store that is down is tried again until it is back, one that refuses for `patience` seconds; then,
and where there is a newer attempt on the run, the run ends: `failure` tells the loop.
"""

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from job.core.exits import Exit, JobError
from job.runs.checkpoint import CheckpointName
from job.runs.leftovers import WORK, Leftovers, SpoolFolders
from job.runs.run import Run
from job.storage.errors import StoreError
from job.storage.files import TEMPORARY, local_errors
from job.storage.folder import FolderStore
from job.storage.manifest import MANIFEST, Manifest

LONGEST_PAUSE = 10.0
"""seconds between two tries of a store that is down"""
HALT_SECONDS = 0.5
"""that the end of a delivery is waited for"""


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
    refused: float | None = None
    """time.monotonic() when the store refused it first, since it took a file last"""
    digested: bool = True
    """False: a thread is still to make its manifest"""

    @property
    def folder(self) -> Path:
        """Of its first file; a checkpoint's files have one of their own."""
        return self.files[0].parent

    @property
    def manifest(self) -> Path | None:
        """Of a checkpoint; written beside the training."""
        return None if self.step is None else self.folder / MANIFEST

    @property
    def all_files(self) -> list[Path]:
        return self.files if self.manifest is None or self.manifest in self.files else [*self.files, self.manifest]


class Spool:
    """Takes files with `add` and `add_checkpoint`, which do not wait, until `close` or `leave_undelivered`.

    `limit`: bytes that may wait before `wait_for_room` does.  `patience`: seconds for which a store may refuse.  Raises StoreError.
    """

    def __init__(self, run: Run, folders: SpoolFolders, *, limit: int, patience: float, say: Callable[[str], None]) -> None:
        self.run, self.limit, self.patience, self.say = run, limit, patience, say
        self._folders = folders
        self.folder, self._lock = folders.new()
        self.failure: JobError | None = None
        """what ended the delivery: 77 or 0, or a StoreError that trying again did not mend"""
        self.trouble: StoreError | None = None
        """what the store said last, as long as it takes no uploads"""
        self.stored_step = -1
        """of the newest checkpoint that this attempt has in the store"""
        self.stored_at: float | None = None
        """time.monotonic() when it had got there"""
        self.upload_seconds: float | None = None
        """that the delivery of the last checkpoint took"""
        self._checkpoints: deque[Upload] = deque()
        self._rest: deque[Upload] = deque()
        self._retrying: set[str] = set()
        """names of the threads whose last try met a store that was down"""
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._delivered: set[Path] = set()
        self._prune_failed = False
        self._threads = [
            threading.Thread(target=self._work, args=(self._checkpoints,), name="spool checkpoints", daemon=True),
            threading.Thread(target=self._work, args=(self._rest,), name="spool rest", daemon=True),
            threading.Thread(target=self._write_manifests, name="spool digests", daemon=True),
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
        files = sorted(path for path in folder.iterdir() if path.name != MANIFEST and not path.name.startswith(TEMPORARY))
        self._add(self._checkpoints, Upload(files=files, step=step, best=best, size=_bytes_of(files), digested=False))

    def add(self, *files: Path) -> None:
        """Hand over files made at `path(…)`."""
        self._add(self._rest, Upload(files=[*files], size=_bytes_of(files)))

    def leftovers(self) -> Leftovers:
        """What attempts that died left on this disk, to be used in a `with`."""
        return self._folders.leftovers()

    def take_over(self, leftovers: Leftovers, newest: CheckpointName, best: str | None) -> None:
        """Deliver what a dead attempt could not, now that the run goes on from `newest`; what is older than that goes.

        The checkpoint itself, where it lies on this disk only, the best one, and resource logs."""
        local = leftovers.checkpoints
        names = [name for name in (CheckpointName.parse(best or ""), newest) if name is not None and name in local]
        for name in dict.fromkeys(names):
            if self.run.store.list(self.run.key("checkpoints", str(name), MANIFEST)):
                continue
            try:
                leftovers.verified(name)
            except JobError as error:
                self.say(f"checkpoint {name} in {local[name]} is left out: {error}")
                continue
            folder = self.path("checkpoints", str(name))
            local[name].rename(folder)
            self.say(f"checkpoint {name} was left on this disk by an attempt that could not deliver it; it is delivered now")
            self.add_checkpoint(folder, name.step, best)
        for path in leftovers.resource_logs:
            target = self.path("attempts", path.parent.name, path.name)
            path.rename(target)
            self.add(target)
        leftovers.clear(run_finished=False)

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

    def close(self, *, leave_checkpoints: bool = False) -> None:
        """End the delivery; the folder and what was not delivered are gone.  `leave_checkpoints`: unless there are checkpoints among it,
        which the next attempt on this disk may take over."""
        self._end_delivery()
        with self._changed:
            waiting = any(upload.folder.exists() for upload in self._checkpoints)
        shutil.rmtree(self.folder / WORK if leave_checkpoints and waiting else self.folder, ignore_errors=True)
        self._lock.close()

    def leave_undelivered(self) -> Path | None:
        """End the delivery; the folder stays under a name that people find, which is returned.  None: it is gone.

        `alexnet sync` delivers it, as does the next attempt on this disk."""
        self._end_delivery()
        if not self.folder.exists():
            return None
        undelivered = self._folders.undelivered()
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
                self._changed.wait_for(lambda: (queue and queue[0].digested) or self._closing.is_set())
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
                    self._bear_refusal(upload, error)
                self._announce_outage(error)
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _bear_refusal(self, upload: Upload, error: StoreError) -> None:
        """Raises the error where the store has refused for too long.  It took the attempt's claim, so what it says now may pass."""
        upload.refused = upload.refused or time.monotonic()
        if time.monotonic() - upload.refused >= self.patience:
            raise StoreError(error.code, f"{error} The store has refused for {self.patience:.0f} s (--flush-timeout).")

    def _announce_outage(self, error: StoreError | None) -> None:
        """Once when the first thread is held up, once when none is any more."""
        with self._changed:
            before = bool(self._retrying)
            (self._retrying.add if error else self._retrying.discard)(threading.current_thread().name)
            after = bool(self._retrying)
            self.trouble = error or (self.trouble if after else None)
        if after and not before:
            limit = "" if error is None or error.transient else f" for at most {self.patience:.0f} s (--flush-timeout)"
            self.say(f"the store does not take uploads, trying again and again{limit}; training goes on. {error}")
        elif before and not after:
            self.say("the store is back: uploads go on")

    def _deliver(self, upload: Upload) -> None:
        self.run.raise_if_superseded()
        _write_manifest(upload)
        for file in upload.files:
            if file not in self._delivered:
                if file == upload.manifest:  # a newer attempt may have cleared the others away meanwhile
                    self.run.raise_if_superseded()
                self._deliver_file(file)
                upload.refused = None
        if upload.step is not None:
            assert upload.begun is not None
            self.stored_step, self.stored_at = upload.step, time.monotonic()
            self.upload_seconds = self.stored_at - upload.begun
            shutil.rmtree(upload.folder, ignore_errors=True)
            self._prune(upload.best)

    def _prune(self, best: str | None) -> None:
        """What cannot be deleted costs room and nothing else; the next checkpoint's retention tries again."""
        try:
            self.run.prune(best)
        except StoreError as error:
            if not self._prune_failed:
                self._prune_failed = True
                self.say(f"old checkpoints are not deleted, and take up room until somebody does; the run goes on. {error}")

    def _deliver_file(self, file: Path) -> None:
        key = file.relative_to(self.folder).as_posix()
        if isinstance(self.run.store, FolderStore):
            self.run.store.move(file, key)
        else:  # a bucket's copy may be lost with its server: ours stays until the upload is whole
            self.run.store.put(key, file)
        self._delivered.add(file)

    def _write_manifests(self) -> None:
        """Of each checkpoint as soon as it is there, however long the uploads before it take."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._undigested() or self._closing.is_set())
                upload = self._undigested()
            if upload is None or self._closing.is_set():
                return
            with suppress(Exception):  # the disk is full, or the upload was dropped: its delivery, if there is one, tries again
                _write_manifest(upload)
            with self._changed:
                upload.digested = True
                self._changed.notify_all()

    def _undigested(self) -> Upload | None:
        return next((upload for upload in self._checkpoints if not upload.digested), None)


def _bytes_of(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _write_manifest(upload: Upload) -> None:
    """The manifest as the last file of the upload."""
    path = upload.manifest
    if path is None or path in upload.files:
        return
    if not path.exists():  # taken over with it
        temporary = path.with_name(f"{TEMPORARY}manifest")
        with local_errors(path):
            temporary.write_bytes(Manifest.of_folder(upload.folder, upload.files).encode())
            temporary.replace(path)  # half a manifest would be taken for a damaged one
    upload.files.append(path)
