"""A run brought from a store to a folder, whole and verified.

What is there already and right is not fetched again, so an interrupted pull goes on where it was; manifests and the summary come after
what they promise, so that the folder never claims more than it holds.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from job.core.exits import Exit, JobError
from job.runs.inventory import Inventory, inventory, is_manifest
from job.runs.run import Run
from job.storage.errors import NotFound
from job.storage.files import local_errors
from job.storage.folder import FolderStore
from job.storage.store import Entry

THREADS = 8


class Pull:
    """`folder` becomes a store that holds the run as `folder/ID`.  Raises JobError: 65 naming every object that is damaged or missing."""

    def __init__(self, run: Run, folder: Path, say: Callable[[str], None]) -> None:
        self.source, self.folder, self.say = run, folder, say
        self.target = FolderStore(folder)
        if isinstance(run.store, FolderStore) and run.store.root.resolve() == folder.resolve():
            raise JobError(Exit.USAGE, f"{folder} is where run {run.id} lies already. Expected another folder.")
        self.fetched: list[Entry] = []
        self.problems: list[str] = []
        self.listed: Inventory = {}

    def run(self) -> None:
        entries = {entry.key: entry for entry in self.source.store.list(self.source.key(""))}
        self.listed = inventory(self.source, entries)
        folders = {key.rpartition("/")[0] for key in self.listed}
        for key in entries:
            if is_manifest(key) and key.rpartition("/")[0] not in folders:
                with suppress(NotFound):  # cleared away meanwhile, as in `_fetch`
                    self.source.store.get(key)
                    self.problems.append(f"{key} lists no files and digests")
        for key in sorted(self.listed.keys() - entries.keys()):
            self.problems.append(f"{key} is missing, though it is listed")
        for promise in (False, True):
            stage = [entry for entry in entries.values() if is_promise(entry.key) is promise]
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(self._fetch, stage))
        size = sum(entry.size for entry in self.fetched)
        verified = len(self.listed.keys() & entries.keys())
        self.say(
            f"{self.folder / self.source.id}: {len(self.fetched)} of {len(entries)} objects fetched ({size / 1e6:.1f} MB), the rest was "
            f"there; {verified} verified by their SHA-256"
        )
        if self.problems:
            raise JobError(
                Exit.DATA,
                f"{self.source.store.url}/{self.source.id} is not whole: {'; '.join(sorted(self.problems))}. Expected what its manifests "
                "and its summary list. All the rest was fetched.",
            )

    def _fetch(self, entry: Entry) -> None:
        path, listed = self.target.path(entry.key), self.listed.get(entry.key)
        with local_errors(path):
            there = path.is_file() and path.stat().st_size == entry.size
            if there and (listed.wrong_digest(path) is None if listed else is_constant(entry.key)):
                return
        try:
            self.source.store.download(entry.key, path)
        except NotFound:  # an old checkpoint that the run, still at work, has cleared away
            self.say(f"{entry.key} was deleted meanwhile and is left out")
            return
        if listed and (found := listed.wrong_digest(path)):
            path.unlink()
            self.problems.append(f"{entry.key} has SHA-256 {found[:12]}…, {listed.sha256[:12]}… is listed for it")
        else:
            self.fetched.append(entry)


def is_promise(key: str) -> bool:
    """Does it vouch for other objects?"""
    return is_manifest(key) or key.endswith("/summary.json")


def is_constant(key: str) -> bool:
    """Can an object of this size only be the same one?  Status and the small records are fetched anew, as they cost little."""
    return not key.endswith(".json")
