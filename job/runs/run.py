"""One run in a store: attempts, checkpoints, final results and the summary that commits them.

Names carry the attempt, payload goes first and the manifest last, and nothing that a reader trusts is ever overwritten; so a late
writer can add, but never alter.  docs/design.md, "Two processes on one run".
"""

import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict, TypeVar

from job.core import records
from job.core.exits import Exit, JobError
from job.core.identity_records import Claim
from job.core.records import CheckpointState, End, MetricsLine, RunRecord, Status, Summary
from job.runs.checkpoint import CHECKPOINT_FILES, CheckpointName
from job.runs.reading import NewerFormatError, lines, read_record, record
from job.storage.errors import NotFound, StoreError
from job.storage.files import encoded, without_secrets
from job.storage.manifest import MANIFEST, Manifest
from job.storage.store import Store

ATTEMPT = re.compile(r"([0-9]{4})-([0-9a-f]{6})")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
Record = TypeVar("Record")
RETAINED = 2
"""checkpoints that retention leaves, beside the best and the final one"""


class Image(TypedDict):
    """What any version's claim.json says."""

    image: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint, copied to a local folder."""

    name: CheckpointName
    folder: Path
    state: CheckpointState
    lines: list[MetricsLine]
    """of metrics.jsonl"""


class Run:
    """`store` holds the run below `run_id`.  Raises JobError (2) for an id that cannot be a folder's name."""

    def __init__(self, store: Store, run_id: str) -> None:
        if not RUN_ID.fullmatch(run_id):
            raise JobError(
                Exit.USAGE,
                f"--run-id {without_secrets(run_id)!r}: expected 1 to 100 letters, digits, '.', '_' or '-', the first of them a letter or "
                "digit. Choose such a name, or leave the flag out.",
            )
        self.store, self.id = store, run_id
        self.attempt = ""
        self.claimed = False
        """whether the store has taken the claim of `attempt`"""
        self.damaged: set[CheckpointName] = set()
        """checkpoints that did not verify"""

    def key(self, *parts: str) -> str:
        return "/".join((self.id, *parts))

    def read(self, kind: type[Record], *parts: str) -> Record | None:
        """A JSON object of the run, or None.  Raises JobError: 65 where it is damaged, 78 where it is of a newer version."""
        try:
            return read_record(self.store, self.key(*parts), kind)
        except NotFound:
            return None
        except NewerFormatError as error:
            raise self._naming_its_image(error) from None

    def read_sound(self, kind: type[Record], *parts: str) -> Record | None:
        """The same for what no result rests on: a damaged object is as good as none."""
        try:
            return self.read(kind, *parts)
        except JobError as error:
            if error.code is not Exit.DATA:
                raise
            return None

    def manifest(self, *parts: str) -> Manifest | None:
        """Of a folder of the run.  Raises as `read`."""
        found = self.read(records.Manifest, *parts, MANIFEST)
        return None if found is None else Manifest.of_record(found)

    def _naming_its_image(self, error: JobError) -> JobError:
        """The attempt before this one wrote it, as far as one can know."""
        others = [name for name in self.attempts() if name != self.attempt]
        with suppress(NotFound, JobError):
            image = read_record(self.store, self.key("attempts", max(others, default="none"), "claim.json"), Image)["image"]
            return JobError(error.code, f"{error} The newest attempt's image is {image or 'none (no container)'}.")
        return error

    @property
    def url(self) -> str:
        """Where the run lies, for people."""
        return f"{self.store.url.rstrip('/')}/{self.id}"

    def record(self) -> RunRecord | None:
        return self.read(RunRecord, "run.json")

    def summary(self) -> Summary | None:
        return self.read(Summary, "summary.json")

    def claim_of(self, attempt: str) -> Claim | None:
        return self.read_sound(Claim, "attempts", attempt, "claim.json")

    def newest_claim(self) -> Claim | None:
        newest = max(filter(ATTEMPT.fullmatch, self.store.folders(self.key("attempts") + "/")), default=None)
        return self.claim_of(newest) if newest else None

    def begin(self, record: RunRecord) -> RunRecord:
        """Store run.json; returns the one that is there, which may be of another attempt."""
        if self.store.put_if_absent(self.key("run.json"), encoded(record)):
            return record
        stored = self.record()
        assert stored is not None
        return stored

    def claim(self, facts: Claim) -> None:
        """Become the newest attempt.  Raises JobError (77) if another one was quicker."""
        numbers = [int(name[:4]) for name in self.attempts()]
        self.attempt = f"{max(numbers, default=0) + 1:04d}-{secrets.token_hex(3)}"
        self.store.put(self.key("attempts", self.attempt, "claim.json"), encoded(facts))
        self.claimed = True
        self.raise_if_superseded()
        with suppress(StoreError):  # left by attempts that died, these only cost space; one that still lives will look, and leave
            self.store.abort_uploads(self.key(""))

    def attempts(self) -> list[str]:
        """Names of those that have begun, oldest first."""
        return list(filter(ATTEMPT.fullmatch, self.store.folders(self.key("attempts") + "/")))

    def raise_if_superseded(self) -> None:
        """Raises JobError: 77 if a newer attempt is at work on the run, 0 if the run has ended."""
        newest = max(self.attempts(), default=self.attempt)
        if newest > self.attempt:
            raise JobError(Exit.SUPERSEDED, f"run {self.id}: attempt {newest} took over from this one, {self.attempt}, which ends here.")
        if self.summary():
            raise JobError(Exit.DONE, f"run {self.id}: another attempt finished it meanwhile; nothing is left to do.")

    def put_status(self, status: Status) -> None:
        """Put status.json, for watchers: the only object that is ever overwritten, and that nothing relies on."""
        self.store.put(self.key("attempts", self.attempt, "status.json"), encoded(status))

    def end(self, end: End) -> None:
        self.store.put(self.key("attempts", self.attempt, "end.json"), encoded(end))

    def newest_checkpoint(self, folder: Path, say: Callable[[str], None], *, beyond: CheckpointName | None = None) -> Checkpoint | None:
        """The greatest checkpoint whose manifest and digests hold, copied to `folder`; damaged ones are skipped, with a line.

        `beyond`: only a greater one than this is of interest."""
        tried: set[CheckpointName] = set()
        while fresh := [name for name in self.checkpoint_names() if name not in tried]:  # listed again: one may vanish, another appear
            name = fresh[0]
            if beyond is not None and name <= beyond:
                return None
            tried.add(name)
            try:
                return self.fetch_checkpoint(name, folder)
            except JobError as error:
                if error.code is not Exit.DATA:
                    raise
                self.damaged.add(name)
                say(f"checkpoint {name} is left out: {error}")
                shutil.rmtree(folder / str(name), ignore_errors=True)
        return None

    def checkpoint_names(self) -> list[CheckpointName]:
        """Greatest (step, attempt number, nonce) first."""
        folders = self.store.folders(self.key("checkpoints") + "/")
        return sorted((name for name in map(CheckpointName.parse, folders) if name is not None), reverse=True)

    def complete_checkpoints(self) -> list[CheckpointName]:
        """Those that have a manifest, in no order."""
        keys = [entry.key.split("/") for entry in self.store.list(self.key("checkpoints") + "/")]
        return [name for *_, folder, file in keys if file == MANIFEST and (name := CheckpointName.parse(folder))]

    def fetch_checkpoint(self, name: CheckpointName, folder: Path) -> Checkpoint:
        """Copy and verify.  Raises JobError (65), naming the object."""
        manifest = self.manifest("checkpoints", str(name))
        if manifest is None:
            raise JobError(Exit.DATA, "its MANIFEST.json is missing, so it was never completed or is being deleted")
        target = folder / str(name)
        target.mkdir(parents=True, exist_ok=True)
        sizes = {entry.key.rpartition("/")[2]: entry.size for entry in self.store.list(self.key("checkpoints", str(name)) + "/")}
        for file in CHECKPOINT_FILES:
            listed = manifest.files.get(file)
            if listed and sizes.get(file, listed.size) != listed.size:  # before it fills the disk
                raise JobError(Exit.DATA, f"{file} has {sizes[file]:,} bytes, its manifest says {listed.size:,}")
            try:
                self.store.download(self.key("checkpoints", str(name), file), target / file)
            except NotFound:
                raise JobError(Exit.DATA, f"{file} is missing") from None
        return self.verified(name, target, manifest, f"{self.store.url}/{self.key('checkpoints', str(name))}")

    def verified(self, name: CheckpointName, folder: Path, manifest: Manifest, where: str) -> Checkpoint:
        """The checkpoint in a local folder, copied from `where`.  Raises JobError: 65 where it is damaged, 78 where it is newer."""
        if sorted(manifest.files) != sorted(CHECKPOINT_FILES):
            listed = ", ".join(map(repr, manifest.files))
            raise JobError(Exit.DATA, f"its MANIFEST.json lists {listed}. Expected {', '.join(CHECKPOINT_FILES)}")
        for file, entry in manifest.files.items():
            if found := entry.wrong_digest(folder / file):
                raise JobError(Exit.DATA, f"{file} has SHA-256 {found[:12]}…, its manifest says {entry.sha256[:12]}…")
        return Checkpoint(
            name=name,
            folder=folder,
            state=self._state(folder / "state.json", f"{where}/state.json"),
            lines=lines(MetricsLine, (folder / "metrics.jsonl").read_bytes(), f"{where}/metrics.jsonl"),
        )

    def _state(self, path: Path, where: str) -> CheckpointState:
        try:
            return record(CheckpointState, path.read_bytes(), where)
        except NewerFormatError as error:
            raise self._naming_its_image(error) from None

    def prune(self, best: str | None) -> None:
        """Delete what is older than the newest two good checkpoints, each manifest first, but for `best` and what those two call best.

        Another look for a newer attempt comes after the listing: what a newer attempt stores later was not listed, and cannot be deleted.
        """
        names = self.checkpoint_names()
        good = (n for n in names if n not in self.damaged and self.store.list(self.key("checkpoints", str(n), MANIFEST)))
        retained = list(islice(good, RETAINED))
        spared = {best, *map(self._best_by, retained)}
        self.raise_if_superseded()
        for name in names:
            if len(retained) == RETAINED and name < retained[-1] and str(name) not in spared:
                found = self.store.list(self.key("checkpoints", str(name)) + "/")
                for entry in sorted(found, key=lambda e: not e.key.endswith(MANIFEST)):
                    self.store.delete(entry.key)

    def _best_by(self, name: CheckpointName) -> str | None:
        """The best checkpoint by the account of this one, which may be continued from."""
        state = self.read_sound(CheckpointState, "checkpoints", str(name), "state.json")
        return state and state["progress"]["best"]

    def commit(self, summary: Summary) -> None:
        """Put the summary, once: the run is complete.  Raises JobError (0) if another attempt has done so."""
        self.raise_if_superseded()
        if not self.store.put_if_absent(self.key("summary.json"), encoded(summary)):
            raise JobError(Exit.DONE, f"run {self.id}: another attempt finished it meanwhile; its results stand.")
