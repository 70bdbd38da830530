"""A dataset in a store: put there once, in the official binary layout, and fetched from there to a cache; verified both ways.

A dataset that somebody copied there by other means, as files or as the archive, is read as well, but then nothing tells its digests.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from job.core.exits import Exit, JobError
from job.core.records import DatasetManifest
from job.core.validation import parse
from job.data.cifar_binary import CLASSES_FILE, FOLDER, binary_files
from job.data.dataset import Dataset
from job.storage.files import encoded, sha256_of
from job.storage.http import Progress
from job.storage.manifest import MANIFEST, FileEntry, Manifest
from job.storage.opening import open_store
from job.storage.store import Entry, Store

Say = Callable[[str], None]
ARCHIVES = (".tar.gz", ".tgz")
MANIFEST_BYTES = 1 << 20
"""at most; there are about ten files"""


def push_dataset(data: Dataset, target: Store, say: Say) -> None:
    """Store the dataset in the official binary layout, its manifest last; what is there and right stays.

    Raises JobError: CONFIGURATION where another dataset is, which is left alone; DATA where a file does not come back as it was sent.
    """
    listed = {name: FileEntry.of(content) for name, content in binary_files(data)}
    manifest = Manifest(files=listed, fingerprint=data.fingerprint).encode()
    there = {entry.key: entry.size for entry in target.list()}
    complete = MANIFEST in there
    if (complete and target.get(MANIFEST) != manifest) or any(_is_file(key) and key not in listed for key in there):
        raise _another(target)
    for name, content in binary_files(data):
        if name not in there:
            target.put(name, content)
            say(f"{name}: {len(content) / 1e6:.1f} MB stored")
        if (found := sha256_of(target.get(name))) != listed[name].sha256:
            raise _damaged(target, name, found, listed[name]) if complete or name not in there else _another(target)
    if not target.put_if_absent(MANIFEST, manifest):
        raise _another(target)
    say(f"{len(data.train):,} training and {len(data.test):,} test images are in {target.url}, verified: train with --data {target.url}")


def _another(target: Store) -> JobError:
    return JobError(Exit.CONFIGURATION, f"{target.url} holds another dataset, which stays. Expected an empty place. Choose another prefix.")


def fetch_dataset(store: Store, cache: Path, progress: Progress | None = None) -> Path:
    """The dataset at the store's place (a prefix with .bin files, or the .tar.gz archive itself) as a folder or a file in `cache`.

    What is there already and has the digest that the manifest lists is not fetched again.  Raises JobError: USAGE where there is no
    dataset, DATA for a damaged one.
    """
    if store.url.endswith(ARCHIVES):
        return _fetch_archive(store.url, cache, progress)
    there = {entry.key: entry for entry in store.list()}
    prefix = "" if any(_is_file(key) for key in there) else f"{FOLDER}/"
    inside = {key.removeprefix(prefix): entry for key, entry in there.items() if key.startswith(prefix)}
    wanted = {name: entry for name, entry in inside.items() if _is_file(name)}
    if not wanted:
        raise JobError(
            Exit.USAGE,
            f"--data {store.url}: there is no dataset (no data_batch_1.bin). `alexnet data push cifar10 {store.url}` puts it there.",
        )
    listed = _manifest(store).files if MANIFEST in there and not prefix else {}
    if missing := sorted(listed.keys() - wanted.keys()):
        raise JobError(Exit.DATA, f"{store.url}: {', '.join(missing)}, which MANIFEST.json lists, is missing. Push the dataset again.")
    versions = [
        [name, entry.key, entry.size, listed[name].sha256 if name in listed else entry.modified] for name, entry in sorted(wanted.items())
    ]
    folder = cache / f"s3-{sha256_of(encoded([store.url, versions]))[:16]}"  # another version of the dataset has another folder
    _fetch(store, {folder / name: entry for name, entry in wanted.items()}, listed, progress)
    return folder


def _fetch_archive(url: str, cache: Path, progress: Progress | None) -> Path:
    place, _, name = url.rpartition("/")
    store = open_store(place)
    entry = next((entry for entry in store.list(name) if entry.key == name), None)
    if entry is None:
        raise JobError(Exit.USAGE, f"--data {url}: there is no such object. Expected an archive laid out like that of CIFAR-10.")
    path = cache / f"s3-{sha256_of(encoded([url, entry.size, entry.modified]))[:16]}" / name
    _fetch(store, {path: entry}, {}, progress)
    return path


def _fetch(store: Store, wanted: Mapping[Path, Entry], listed: Mapping[str, FileEntry], progress: Progress | None) -> None:
    """Have the objects as files: by their digests where these are listed, else by size and the folder's name."""

    def is_right(path: Path, entry: Entry) -> bool:
        there = path.is_file() and path.stat().st_size == entry.size
        return there and (path.name not in listed or listed[path.name].wrong_digest(path) is None)

    needed = {path: entry for path, entry in wanted.items() if not is_right(path, entry)}
    received, total = 0, sum(entry.size for entry in needed.values())
    for path, entry in needed.items():
        store.download(entry.key, path)
        if path.name in listed and (found := listed[path.name].wrong_digest(path)):
            path.unlink()
            raise _damaged(store, entry.key, found, listed[path.name])
        received += entry.size
        if progress is not None:
            progress(received, total)


def _is_file(name: str) -> bool:
    return "/" not in name and (name.endswith(".bin") or name == CLASSES_FILE)


def _manifest(store: Store) -> Manifest:
    try:
        found: DatasetManifest = parse(DatasetManifest, store.get(MANIFEST, MANIFEST_BYTES))
        return Manifest.of_record(found)
    except ValueError as error:
        raise JobError(
            Exit.DATA, f"{store.url}/MANIFEST.json is damaged: {error}. Expected files and digests. Push the dataset again."
        ) from None


def _damaged(store: Store, key: str, found: str, expected: FileEntry) -> JobError:
    return JobError(
        Exit.DATA,
        f"{store.url}/{key} is damaged: its SHA-256 is {found[:12]}…, expected {expected.sha256[:12]}…. "
        "Store it again, or look at the network.",
    )
