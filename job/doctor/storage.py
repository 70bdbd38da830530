"""The store and the dataset: every verb that training uses, tried under a prefix of its own that is empty again afterwards."""

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from job.core.exits import JobError
from job.doctor.page import Level, Line, Question, failed
from job.storage.errors import NotFound, StoreError
from job.storage.files import local_errors
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.store import Store

SMALL = 1_000_000
LARGE = 32 << 20
"""bytes; S3 objects above 16 MiB go up in parts"""
LEAST_LARGE = 17 << 20
SECONDS = 12.0
"""for the large object to go up; on a slow store it is made smaller"""
PATIENCE = 30.0
SKEW_OK, SKEW_MOST = 60.0, 300.0
"""seconds; S3 refuses signatures that are 15 minutes off"""


def examine(question: Question) -> Iterator[Line]:
    assert question.output is not None
    try:
        store = open_store(question.output)
    except JobError as error:
        yield failed("store", error)
        return
    trial = Trial(store, question)
    try:
        yield from trial.lines()
    finally:
        trial.clear_away()


class Trial:
    """One after the other, as each tells whether the next makes sense."""

    def __init__(self, store: Store, question: Question) -> None:
        self.store, self.question = store, question
        self.folder = f".doctor-{secrets.token_hex(4)}"
        self.keys: list[str] = []
        """of objects that may be there"""
        self.upload_rate: float | None = None
        """bytes/s"""
        root = store.root if isinstance(store, FolderStore) else Path("/")
        self.new_folders = [path for path in (root, *root.parents) if not path.exists()]

    def lines(self) -> Iterator[Line]:
        listed = self.tried("list", self.list)
        # a refusal for lack of rights comes from a store that was reached; after all else no other verb would fare better
        if listed.level == "fail" and "access denied" not in listed.reason:
            yield Line(check="store", level="fail", reason=listed.reason, remedy=f"{listed.remedy} (No other right was tried.)")
            return
        yield Line(check="store", level="pass", reason=f"{self.store.url} answers{self._server()}")
        yield listed
        yield self.tried("clock", self.clock)
        put = self.tried("put", self.put)
        yield put
        yield self.tried("get", self.get)
        if put.level == "pass":
            yield self.tried("multipart", self.large)
            yield self.tried("conditional put", self.conditional)
        else:
            for check in ("multipart", "conditional put"):
                yield Line(check=check, level="fail", reason="not tried, as put fails", remedy="Mend that first.")
        deleted = self.tried("delete", self.delete)
        left = f" Left behind: {self.folder}/." if deleted.level == "fail" and self.keys else ""
        yield replace(deleted, remedy=deleted.remedy + left)
        if self.upload_rate is not None:
            yield self.throughput(self.upload_rate)

    def tried(self, check: str, action: Callable[[], Line]) -> Line:
        try:
            return action()
        except (StoreError, NotFound, FileNotFoundError) as error:
            return failed(check, error)

    def list(self) -> Line:
        begun = time.monotonic()
        self.store.list(f"{self.folder}/")
        return Line(check="list", level="pass", reason=f"answered in {time.monotonic() - begun:.2f} s")

    def clock(self) -> Line:
        before = time.time()
        skew = self.store.now() - (before + time.time()) / 2
        reason = f"the store's is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        if abs(skew) <= SKEW_OK:
            return Line(check="clock", level="pass", reason=reason)
        level: Level = "warn" if abs(skew) <= SKEW_MOST else "fail"
        return Line(check="clock", level=level, reason=reason, remedy="Set the wrong one (NTP). S3 refuses what is 15 minutes off.")

    def put(self) -> Line:
        self.small = os.urandom(SMALL)
        begun = time.monotonic()
        self.store.put(self._key("small"), self.small)
        seconds = time.monotonic() - begun
        self.upload_rate = SMALL / seconds
        return Line(check="put", level="pass", reason=f"{SMALL / 1e6:.0f} MB in {seconds:.2f} s")

    def get(self) -> Line:
        begun = time.monotonic()
        try:
            same = self.store.get(f"{self.folder}/small") == self.small
        except NotFound:
            return Line(check="get", level="pass", reason="the answer for an object that is not there is that it is not there")
        if not same:
            return self._altered("get")
        return Line(check="get", level="pass", reason=f"the same bytes in {time.monotonic() - begun:.2f} s")

    def large(self) -> Line:
        """A file above the size from which on boto3 sends parts; in a folder no larger than a checkpoint."""
        assert self.upload_rate
        in_folder = isinstance(self.store, FolderStore)
        check = "multipart"
        size = min(LARGE, self.question.checkpoint_bytes) if in_folder else LARGE
        size = size if size / self.upload_rate <= SECONDS or in_folder else LEAST_LARGE
        if size / self.upload_rate > PATIENCE:
            reason = f"not tried, as the store takes {self.upload_rate / 1e6:.2f} MB/s"
            return Line(check=check, level="warn", reason=reason, remedy="Use a faster store, or try `alexnet train` on it.")
        place = self.question.spool if self.question.spool and self.question.spool.is_dir() else Path(tempfile.gettempdir())
        with tempfile.TemporaryDirectory(dir=place, prefix="alexnet-doctor-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "large"
            data = os.urandom(size)
            with local_errors(path):
                path.write_bytes(data)
            begun = time.monotonic()
            self.store.put(self._key("large"), path)
            up = time.monotonic() - begun
        begun = time.monotonic()
        same = hashlib.sha256(self.store.get(f"{self.folder}/large")).digest() == hashlib.sha256(data).digest()
        down = time.monotonic() - begun
        if not same:
            return self._altered(check)
        dropped = self.store.abort_uploads(f"{self.folder}/")
        self.upload_rate = size / up
        reason = f"{size / 1e6:.0f} MB up in {up:.1f} s, the same bytes down in {down:.1f} s; half uploads can be aborted"
        return Line(check=check, level="pass", reason=f"{reason} ({dropped} found)" if dropped else reason)

    def conditional(self) -> Line:
        begun = time.monotonic()
        if self.store.conditional:
            seconds = time.monotonic() - begun
            return Line(check="conditional put", level="pass", reason=f"of writers at the same moment one wins ({seconds:.1f} s)")
        return Line(
            check="conditional put",
            level="warn",
            reason="the store ignores `If-None-Match`: of two attempts that end a run at the same moment, the last one wins",
            remedy="Results stay whole either way. Use a store that honours it (AWS, MinIO, SeaweedFS from 4.17).",
        )

    def delete(self) -> Line:
        if not self.keys:
            self.store.delete(f"{self.folder}/absent")
            return Line(check="delete", level="pass", reason="allowed (there was nothing to delete)")
        for key in self.keys:
            self.store.delete(key)
        if left := [entry.key for entry in self.store.list(f"{self.folder}/")]:
            return Line(check="delete", level="fail", reason=f"still listed: {', '.join(left)}", remedy="Delete them by hand.")
        deleted, self.keys = len(self.keys), []
        return Line(check="delete", level="pass", reason=f"{deleted} objects, nothing is left of this trial")

    def throughput(self, rate: float) -> Line:
        size, grace = self.question.checkpoint_bytes, self.question.grace
        reason = f"{rate / 1e6:.1f} MB/s: a checkpoint of {size / 1e6:.1f} MB takes {size / rate:.1f} s, the grace period is {grace:.0f} s"
        if size / rate <= grace:
            return Line(check="throughput", level="pass", reason=reason)
        return Line(
            check="throughput",
            level="warn",
            reason=reason,
            remedy="After SIGTERM a run falls back to its last periodic checkpoint. Raise terminationGracePeriodSeconds and --grace, "
            "or use a faster store.",
        )

    def clear_away(self) -> None:
        with suppress(StoreError):
            for key in self.keys:
                self.store.delete(key)
        for path in self.new_folders:
            with suppress(OSError):  # another process uses it already
                path.rmdir()

    def _key(self, name: str) -> str:
        self.keys.append(f"{self.folder}/{name}")
        return self.keys[-1]

    def _server(self) -> str:
        server = str(getattr(self.store, "server", ""))
        told = {"https": "; its name resolves and its certificate is trusted", "http": "; its name resolves, it speaks no TLS"}
        return f" at {server}{told.get(server.partition(':')[0], '')}" if server else ""

    def _altered(self, check: str) -> Line:
        remedy = "Expected the bytes that were put. Look at proxies on the way and at the store's disks."
        return Line(check=check, level="fail", reason="other bytes came back", remedy=remedy)


def dataset(question: Question) -> Iterator[Line]:
    """Read whole, as training does."""
    from job.data.sources import load

    assert question.data is not None
    begun = time.monotonic()
    try:
        data = load(question.data, cache=question.cache, mirror=question.mirror)
    except JobError as error:
        yield failed("dataset", error)
        return
    counts = f"{len(data.train)} training and {len(data.test)} test images, fingerprint {data.fingerprint[:12]}"
    yield Line(check="dataset", level="pass", reason=f"{data.name}: {counts}, read in {time.monotonic() - begun:.1f} s")
