"""Runs brought from a folder to a store, in the order that keeps readers safe: payload, then manifest, and the summary last.

`alexnet sync` delivers what a run could not: the folder is what an attempt left undelivered, or an output folder.  What is there is not
sent again, and nothing that a reader of the target trusts is ever overwritten.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from job.core.exits import Exit, JobError
from job.runs.inventory import Inventory, commitment, inventory, is_manifest, listed_by, manifest_for
from job.runs.run import RUN_ID, Run
from job.storage.errors import StoreError
from job.storage.folder import FolderStore
from job.storage.manifest import MANIFEST, Manifest
from job.storage.store import Store

Say = Callable[[str], None]


LONGEST_PAUSE = 10.0
"""seconds between two tries of a store that is away"""


def sync(folder: Path, target: Store, say: Say, timeout: float = 0.0) -> None:
    """Deliver all runs of the folder.  A store that is away is tried again, until it has taken nothing for `timeout` seconds.

    Raises JobError as `Delivery.run`; 74 names what was not delivered.
    """
    source, problems = FolderStore(folder), list[JobError]()
    deliveries = [Delivery(source, target, run_id, say) for run_id in runs_in(folder)]
    for number, delivery in enumerate(deliveries):
        try:
            _deliver(delivery, timeout)
        except StoreError as error:
            if not error.transient:
                raise
            remaining = [*(delivery.remaining or [delivery.here.key("")]), *(later.here.key("") for later in deliveries[number + 1 :])]
            raise StoreError(
                Exit.NOT_STORED,
                f"{error} Not delivered: {', '.join(remaining)}. Repeat the command; what was delivered is not sent again.",
                transient=True,
            ) from error
        except JobError as error:
            problems.append(error)
    if problems:
        raise JobError(problems[0].code, "\n".join(map(str, problems)))


def _deliver(delivery: "Delivery", timeout: float) -> None:
    """Run it as often as it takes.  Raises as `Delivery.run`."""
    sent, pause, end = -1, 0.0, 0.0
    while True:
        try:
            return delivery.run()
        except StoreError as error:
            if not error.transient or not timeout:
                raise
            if delivery.sent > sent:  # the first try of this outage
                sent, pause, end = delivery.sent, 0.5, time.monotonic() + timeout
                delivery.say(f"the store does not take uploads, trying again and again for {timeout:.0f} s. {error}")
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def runs_in(folder: Path) -> list[str]:
    """Ids of the runs in a folder store.  Raises JobError (2) where there is none."""
    if (folder / "run.json").is_file():
        raise JobError(Exit.USAGE, f"{folder} is a run itself. Expected the folder that holds it: {folder.absolute().parent}.")
    parts = ("run.json", "summary.json", "attempts", "checkpoints", "final")
    names = filter(RUN_ID.fullmatch, FolderStore(folder).folders())
    found = [name for name in names if any((folder / name / part).exists() for part in parts)]
    if not found:
        raise JobError(
            Exit.USAGE, f"{folder}: there is no run. Expected the folder that a message of `alexnet train` named, or an --output."
        )
    return found


class Delivery:
    """One run on its way from a folder to a store."""

    def __init__(self, source: FolderStore, target: Store, run_id: str, say: Say) -> None:
        self.here, self.there, self.say = Run(source, run_id), Run(target, run_id), say
        self.source, self.target = source, target
        self.problems: list[JobError] = []
        self.remaining: list[str] = []
        """keys that are yet to be delivered"""
        self.new_manifests: dict[str, Manifest] = {}
        """by key, for checkpoints whose upload had not begun"""
        self.target_sizes: dict[str, int] = {}
        """key → bytes of what the target has"""
        self.trusted: Inventory = {}
        """what the target's readers trust"""
        self.listed: Inventory = {}
        """that, and what is listed here"""
        self.damaged: set[str] = set()
        """keys of files here that are not what is listed"""
        self.sent = 0
        """objects, in all tries"""

    def run(self) -> None:
        """May be repeated.

        Raises JobError: 77 if another attempt finished it, 78 if the run there is another one, 65 and 74 naming what is missing."""
        self.damaged, self.problems = set(), []
        found = [entry.key for entry in self.source.list(self.here.key(""))]
        self.new_manifests = self._missing_manifests(found)
        self.remaining = sorted([*found, *self.new_manifests], key=_rank)
        self.target_sizes = {entry.key: entry.size for entry in self.target.list(self.there.key(""))}
        self._check_attempt()
        self._check_record()
        new = {name: entry for key, manifest in self.new_manifests.items() for name, entry in listed_by(key, manifest).items()}
        self.trusted = inventory(self.there, self.target_sizes)
        self.listed = new | inventory(self.here, found) | self.trusted
        while self.remaining:
            self.sent += self._deliver(self.remaining[0])
            self.remaining.pop(0)
        outcome = f"{self.sent} objects delivered, what else there is was there" if self.sent else "all there"
        self.say(f"run {self.here.id}: {outcome}")
        if self.problems:
            raise JobError(self.problems[0].code, " ".join(map(str, self.problems)))

    def _missing_manifests(self, found: list[str]) -> dict[str, Manifest]:
        """For the checkpoints whose upload had not begun."""
        folders = {key.rpartition("/")[0] for key in found if key.startswith(self.here.key("checkpoints") + "/")}
        without = sorted(folder for folder in folders if f"{folder}/{MANIFEST}" not in found)
        made = {f"{folder}/{MANIFEST}": manifest_for(self.source.root / folder) for folder in without}
        return {key: manifest for key, manifest in made.items() if manifest is not None}

    def _check_attempt(self) -> None:
        ours, theirs = commitment(self.here), commitment(self.there)
        if theirs is not None and (ours is None or ours.attempt != theirs.attempt):
            whose = f", not by {ours.attempt}, whose summary is in {self.source.url}" if ours else ""
            raise JobError(
                Exit.SUPERSEDED,
                f"{self.target.url}/{self.there.id} was finished by attempt {theirs.attempt}{whose}. Its results stand; what is here "
                f"stays here. Look at them with `alexnet report {self.target.url}/{self.there.id}`; then the folder here can go.",
            )

    def _check_record(self) -> None:
        """The two must be one run."""
        ours, theirs = self.here.record(), self.there.record()
        if ours is None and theirs is None:
            raise JobError(Exit.DATA, f"run {self.here.id}: there is no run.json, neither in {self.source.url} nor in {self.target.url}.")
        if ours is None or theirs is None or ours == theirs:
            return
        a, b = _flat(theirs), _flat(ours)
        names = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
        different = "; ".join(f"{name}: {a.get(name)!r} there, {b.get(name)!r} here" for name in names)
        raise JobError(
            Exit.CONFIGURATION,
            f"{self.target.url}/{self.there.id} is another run of the same name ({different}). Nothing of it was delivered. "
            "Choose another prefix.",
        )

    def _deliver(self, key: str) -> bool:
        """True: the object was sent."""
        path, there = self.source.path(key), self.target_sizes.get(key)
        if key.endswith("/status.json"):  # the one object that may be overwritten
            return self._put(key, path) if there is None or self.target.get(key) != path.read_bytes() else False
        if _rank(key)[0] != PAYLOAD:
            return there is None and self._promise(key, path)
        if key in self.trusted and there is not None:
            return False
        if not self._sound(key, path) or there == path.stat().st_size:
            return False
        if there is not None and key.startswith(self.there.key("attempts") + "/"):
            self.say(f"{key}: another one, of {there} bytes, is there and stays")
            return False
        return self._put(key, path)

    def _promise(self, key: str, path: Path) -> bool:
        """run.json, a manifest or the summary: put once, when what it lists is there."""
        if is_manifest(key):
            missing = [k for k in self.listed if k.startswith(key.removesuffix(MANIFEST)) and not self._has(k)]
            if missing:
                self.say(f"{key} is not delivered, since its checkpoint is not whole, neither here nor there: no {', '.join(missing)}")
                return False
            new = self.new_manifests.get(key)
            return self._put(key, new.encode() if new else path)
        if key == self.there.key("summary.json") and not self._complete():
            return False
        if not self.target.put_if_absent(key, path.read_bytes()):  # somebody else was quicker
            self._check_attempt()
            self._check_record()
            return False
        self.say(key)
        return True

    def _complete(self) -> bool:
        """Is everything there that the summary names?"""
        summary = commitment(self.here)
        assert summary is not None
        model = self.there.key(summary.model)
        needed = [self.there.key("final", summary.attempt, name) for name in summary.final]
        needed += [model, f"{model.rpartition('/')[0]}/{MANIFEST}"]
        if missing := [key for key in needed if not self._has(key)]:
            self.problems.append(
                JobError(
                    Exit.NOT_STORED,
                    f"{self.there.key('summary.json')} was not delivered, since it names objects that are whole neither in "
                    f"{self.source.url} nor in {self.target.url}: {', '.join(missing)}. Finish the run there with `alexnet train "
                    f"--output {self.target.url} --run-id {self.here.id}` and its options.",
                )
            )
        return not missing

    def _has(self, key: str) -> bool:
        """Is it there, with the size that is listed for it?"""
        size = self.target_sizes.get(key)
        listed = self.listed.get(key)
        return size is not None and key not in self.damaged and (listed is None or size == listed.size)

    def _sound(self, key: str, path: Path) -> bool:
        """Has the file here the digest that is listed for it?  What is damaged is not delivered."""
        listed = self.listed.get(key)
        if listed is None or (found := listed.wrong_digest(path)) is None:
            return True
        self.damaged.add(key)
        message = f"{path} is damaged: its SHA-256 is {found[:12]}…, {listed.sha256[:12]}… is listed for it. It was not delivered."
        self.problems.append(JobError(Exit.DATA, message))
        return False

    def _put(self, key: str, data: bytes | Path) -> bool:
        self.target.put(key, data)
        self.target_sizes[key] = size = data.stat().st_size if isinstance(data, Path) else len(data)
        self.say(f"{key} ({size / 1e6:.1f} MB)" if size >= 1e5 else key)
        return True


PAYLOAD = 1


def _rank(key: str) -> tuple[int, str]:
    """What vouches for others comes after them."""
    name = key.partition("/")[2]
    return (0 if name == "run.json" else 3 if name == "summary.json" else 2 if is_manifest(key) else PAYLOAD), key


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    nested = {f"{name}.{key}": value for name in ("recipe", "data") for key, value in record[name].items()}
    return {key: value for key, value in record.items() if key not in ("recipe", "data")} | nested
