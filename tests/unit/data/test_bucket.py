"""A dataset in a store: pushed once in the official layout, fetched into a cache, damage and other datasets refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from job.core.exits import Exit, JobError
from job.data import cifar_binary, sources
from job.data.bucket import fetch_dataset, push_dataset
from job.data.cifar_binary import CLASSES_FILE, RECORD, TEST_FILE
from job.data.dataset import Dataset, Split
from job.data.sources import load
from job.storage.folder import FolderStore

FILES = [CLASSES_FILE, "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", TEST_FILE]


def made(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)

    def split(count: int) -> Split:
        return Split(images=rng.integers(0, 256, (count, 32, 32, 3), np.uint8), labels=rng.integers(0, 10, count).astype(np.uint8))

    classes = tuple(f"class {n}" for n in range(10))
    return Dataset(name="made", train=split(23), test=split(7), classes=classes, source="here", checksums={})


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar_binary, "PER_FILE", 10)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store" / "mine")


def push(data: Dataset, store: FolderStore) -> list[str]:
    said: list[str] = []
    push_dataset(data, store, said.append)
    return said


def read(store: FolderStore, cache: Path) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "open_store", lambda _: store)
        return load("s3://bucket/mine", cache=cache)


def refused(code: Exit, text: str, *arguments: object) -> None:
    with pytest.raises(JobError, match=text) as caught:
        arguments[0](*arguments[1:])  # type: ignore[operator]
    assert caught.value.code is code


def bend(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[RECORD // 2] ^= 1
    path.write_bytes(data)


def test_there_and_back(store: FolderStore, tmp_path: Path) -> None:
    data = made()
    assert len(push(data, store)) == len(FILES) + 1
    assert sorted(entry.key for entry in store.list()) == sorted([*FILES, "MANIFEST.json"])
    assert (store.root / "data_batch_3.bin").stat().st_size == 3 * RECORD
    found = read(store, tmp_path / "cache")
    assert (found.fingerprint, found.classes, found.name) == (data.fingerprint, data.classes, "mine")


def test_pushed_again(store: FolderStore) -> None:
    push(made(), store)
    before = {path: path.stat().st_mtime_ns for path in store.root.iterdir()}
    assert len(push(made(), store)) == 1
    assert {path: path.stat().st_mtime_ns for path in store.root.iterdir()} == before


def test_an_interrupted_push_goes_on(store: FolderStore, tmp_path: Path) -> None:
    push(made(), store)
    for name in ("MANIFEST.json", "data_batch_2.bin"):
        (store.root / name).unlink()
    assert [line for line in push(made(), store) if "stored" in line] == ["data_batch_2.bin: 0.0 MB stored"]
    assert read(store, tmp_path / "cache").fingerprint == made().fingerprint


@pytest.mark.parametrize("manifest", [True, False])
def test_another_dataset_stays(manifest: bool, store: FolderStore) -> None:
    push(made(1), store)
    if not manifest:
        (store.root / "MANIFEST.json").unlink()
    before = {path.name: path.read_bytes() for path in store.root.iterdir()}
    refused(Exit.CONFIGURATION, "another dataset", push, made(2), store)
    assert {path.name: path.read_bytes() for path in store.root.iterdir()} == before


def test_a_file_too_many(store: FolderStore) -> None:
    """It would be read as a part of the dataset."""
    store.put("data_batch_9.bin", bytes(RECORD))
    refused(Exit.CONFIGURATION, "another dataset", push, made(), store)


def test_a_damaged_copy_is_found_by_the_next_push_and_by_the_reader(store: FolderStore, tmp_path: Path) -> None:
    push(made(), store)
    bend(store.root / "data_batch_1.bin")
    refused(Exit.DATA, "data_batch_1.bin", push, made(), store)
    refused(Exit.DATA, "data_batch_1.bin", read, store, tmp_path / "cache")
    (store.root / "data_batch_1.bin").unlink()
    refused(Exit.DATA, "data_batch_1.bin", read, store, tmp_path / "cache")
    push(made(), store)
    assert read(store, tmp_path / "cache").fingerprint == made().fingerprint


def test_the_cache_is_used_and_never_trusted(store: FolderStore, tmp_path: Path) -> None:
    push(made(), store)
    cache, seen = tmp_path / "cache", list[tuple[int, int | None]]()

    def progress(received: int, total: int | None) -> None:
        seen.append((received, total))

    folder = fetch_dataset(store, cache, progress)
    assert len(seen) == len(FILES)
    assert seen[-1][0] == seen[-1][1] == sum((store.root / name).stat().st_size for name in FILES)
    assert fetch_dataset(store, cache, progress) == folder
    assert len(seen) == len(FILES), "fetched again"
    bend(folder / "data_batch_1.bin")
    assert read(store, cache).fingerprint == made().fingerprint
    (folder / TEST_FILE).unlink()
    assert read(store, cache).fingerprint == made().fingerprint


def test_files_that_somebody_else_put_there(store: FolderStore, tmp_path: Path) -> None:
    """No manifest; in the archive's folder, too; a changed object is noticed by its size or date."""
    push(made(), store)
    (store.root / "MANIFEST.json").unlink()
    cache = tmp_path / "cache"
    assert read(store, cache).fingerprint == made().fingerprint
    bend(store.root / "data_batch_1.bin")
    os.utime(store.root / "data_batch_1.bin", (1, 1))
    assert read(store, cache).fingerprint != made().fingerprint
    inner = FolderStore(tmp_path / "other")
    store.root.rename(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "other").mkdir()
    (tmp_path / "cifar-10-batches-bin").rename(tmp_path / "other" / "cifar-10-batches-bin")
    assert len(read(inner, cache).train) == 23


def test_an_archive_in_a_store(tmp_path: Path) -> None:
    import io
    import tarfile

    push(made(), FolderStore(tmp_path / "plain"))
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    with tarfile.open(bucket / "mine.tar.gz", "w:gz") as archive:
        for path in sorted((tmp_path / "plain").iterdir()):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{path.name}")
            member.size = path.stat().st_size
            archive.addfile(member, io.BytesIO(path.read_bytes()))
    store = FolderStore(bucket / "mine.tar.gz", str(bucket / "mine.tar.gz"))
    assert read(store, tmp_path / "cache").fingerprint == made().fingerprint
    (bucket / "mine.tar.gz").unlink()
    refused(Exit.USAGE, "no such object", read, store, tmp_path / "cache")


def test_nothing_there(store: FolderStore, tmp_path: Path) -> None:
    refused(Exit.USAGE, "alexnet data push", read, store, tmp_path)
    push(made(), store)
    store.put("MANIFEST.json", b"{}")
    refused(Exit.DATA, "MANIFEST.json is damaged", read, store, tmp_path)
