"""The store and the dataset: every operation that training uses, on objects under a prefix of their own, which are deleted afterwards."""

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
from job.doctor.page import Level, Line, Setup, failed
from job.storage.errors import NotFound, StoreError
from job.storage.files import local_errors
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.store import Store
from job.storage.versioning import Versioning, lifecycle_command

SMALL_BYTES = 1_000_000
LARGE_BYTES = 32 << 20
"""S3 objects above 16 MiB are uploaded in parts"""
MIN_LARGE_BYTES = 17 << 20
UPLOAD_SECONDS = 12.0
"""for uploading the large object; if a store is too slow for that, the object is made smaller"""
MAX_UPLOAD_SECONDS = 30.0
"""estimated for the smaller object, above which it is not tried"""
SKEW_WARN, SKEW_FAIL = 60.0, 300.0
"""seconds of clock skew above which the check warns or fails; S3 refuses signatures that are 15 minutes off"""


def check_store(setup: Setup) -> Iterator[Line]:
    assert setup.output is not None
    try:
        store = open_store(setup.output)
    except JobError as error:
        yield failed("store", error)
        return
    check = StoreCheck(store, setup)
    try:
        yield from check.lines()
    finally:
        check.clean_up()


class StoreCheck:
    """Checks of one store, in order: some are left out if an earlier one fails."""

    def __init__(self, store: Store, setup: Setup) -> None:
        self.store, self.setup = store, setup
        self.folder = f".doctor-{secrets.token_hex(4)}"
        self.keys: list[str] = []
        """of objects that this check may have stored"""
        self.upload_rate: float | None = None
        """bytes/s of the largest upload so far"""
        root = store.root if isinstance(store, FolderStore) else Path("/")
        self.new_folders = [path for path in (root, *root.parents) if not path.exists()]

    def lines(self) -> Iterator[Line]:
        listed = self.run("list", self.list)
        # a refusal for lack of rights comes from a store that was reached; after all else no other verb would fare better
        if listed.level == "fail" and "access denied" not in listed.reason:
            yield Line(check="store", level="fail", reason=listed.reason, remedy=f"{listed.remedy} (No other right was tried.)")
            return
        yield Line(check="store", level="pass", reason=f"{self.store.url} answers{self._server()}")
        yield listed
        yield self.run("clock", self.clock)
        put = self.run("put", self.put)
        yield put
        yield self.run("get", self.get)
        if put.level == "pass":
            yield self.run("multipart", self.multipart)
            yield self.run("conditional put", self.conditional_put)
        else:
            for check in ("multipart", "conditional put"):
                yield Line(check=check, level="fail", reason="not tried, as put fails", remedy="Mend that first.")
        versioning = self.store.versioning()
        yield self.versioning(versioning)
        deleted = self.run("delete", lambda: self.delete(versioning.enabled))
        left = f" Left behind: {self.folder}/." if deleted.level == "fail" and self.keys else ""
        yield replace(deleted, remedy=deleted.remedy + left)
        if self.upload_rate is not None:
            yield self.throughput(self.upload_rate)

    def run(self, check: str, action: Callable[[], Line]) -> Line:
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
        if abs(skew) <= SKEW_WARN:
            return Line(check="clock", level="pass", reason=reason)
        level: Level = "warn" if abs(skew) <= SKEW_FAIL else "fail"
        return Line(check="clock", level=level, reason=reason, remedy="Set the wrong one (NTP). S3 refuses what is 15 minutes off.")

    def put(self) -> Line:
        self.small = os.urandom(SMALL_BYTES)
        begun = time.monotonic()
        self.store.put(self._key("small"), self.small)
        seconds = time.monotonic() - begun
        self.upload_rate = SMALL_BYTES / seconds
        return Line(check="put", level="pass", reason=f"{SMALL_BYTES / 1e6:.0f} MB in {seconds:.2f} s")

    def get(self) -> Line:
        begun = time.monotonic()
        try:
            same = self.store.get(f"{self.folder}/small") == self.small
        except NotFound:
            return Line(check="get", level="pass", reason="the answer for an object that is not there is that it is not there")
        if not same:
            return self._altered("get")
        return Line(check="get", level="pass", reason=f"the same bytes in {time.monotonic() - begun:.2f} s")

    def multipart(self) -> Line:
        """Put and get a file that boto3 uploads in parts; in a folder, one that is no larger than a checkpoint."""
        assert self.upload_rate
        in_folder = isinstance(self.store, FolderStore)
        check = "multipart"
        size = min(LARGE_BYTES, self.setup.checkpoint_bytes) if in_folder else LARGE_BYTES
        size = size if size / self.upload_rate <= UPLOAD_SECONDS or in_folder else MIN_LARGE_BYTES
        if size / self.upload_rate > MAX_UPLOAD_SECONDS:
            reason = f"not tried, as the store takes {self.upload_rate / 1e6:.2f} MB/s"
            return Line(check=check, level="warn", reason=reason, remedy="Use a faster store, or try `alexnet train` on it.")
        place = self.setup.spool if self.setup.spool and self.setup.spool.is_dir() else Path(tempfile.gettempdir())
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

    def conditional_put(self) -> Line:
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

    def versioning(self, found: Versioning) -> Line:
        """Retention counts on it that what is deleted frees its room."""
        check, size = "versioning", self.setup.checkpoint_bytes / 1e6
        if found.enabled is None:
            return Line(check=check, level="pass", reason="not known, as the store does not answer this key's question")
        if not found.enabled:
            return Line(check=check, level="pass", reason="off: what is deleted frees its room")
        if found.days is not None:
            return Line(
                check=check,
                level="pass",
                reason=f"on: what is deleted stays for {found.days} day{'s' * (found.days > 1)}, then a lifecycle rule removes it",
            )
        rule = "this key may not see whether a lifecycle rule removes it" if found.rules is None else "no lifecycle rule removes it"
        others = " (this takes the place of the rules that the bucket has, so add them to it)" if found.rules != 0 else ""
        return Line(
            check=check,
            level="warn",
            reason=f"on: what is deleted stays as an old version, and {rule}; {size:.1f} MB for each checkpoint",
            remedy=f"Have the bucket remove it after a day{others}: {lifecycle_command(self.store.url)}",
        )

    def delete(self, kept: bool | None) -> Line:
        if not self.keys:
            self.store.delete(f"{self.folder}/absent")
            return Line(check="delete", level="pass", reason="allowed (there was nothing to delete)")
        for key in self.keys:
            self.store.delete(key)
        if listed := [entry.key for entry in self.store.list(f"{self.folder}/")]:
            return Line(check="delete", level="fail", reason=f"still listed: {', '.join(listed)}", remedy="Delete them by hand.")
        deleted, self.keys = len(self.keys), []
        left = "their old versions stay" if kept else "nothing is left of this trial"
        return Line(check="delete", level="pass", reason=f"{deleted} objects, {left}")

    def throughput(self, rate: float) -> Line:
        size, grace = self.setup.checkpoint_bytes, self.setup.grace
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

    def clean_up(self) -> None:
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
        scheme_notes = {"https": "; its name resolves and its certificate is trusted", "http": "; its name resolves, it speaks no TLS"}
        return f" at {server}{scheme_notes.get(server.partition(':')[0], '')}" if server else ""

    def _altered(self, check: str) -> Line:
        remedy = "Expected the bytes that were put. Look at proxies on the way and at the store's disks."
        return Line(check=check, level="fail", reason="other bytes came back", remedy=remedy)


def check_dataset(setup: Setup) -> Iterator[Line]:
    """Read the whole dataset, as training does."""
    from job.data.sources import load

    assert setup.data is not None
    begun = time.monotonic()
    try:
        data = load(setup.data, cache=setup.cache, mirror=setup.mirror)
    except JobError as error:
        yield failed("dataset", error)
        return
    counts = f"{len(data.train)} training and {len(data.test)} test images, fingerprint {data.fingerprint[:12]}"
    yield Line(check="dataset", level="pass", reason=f"{data.name}: {counts}, read in {time.monotonic() - begun:.1f} s")
