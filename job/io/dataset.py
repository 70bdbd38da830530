"""The images: CIFAR-10 from its official archive, own files in the same layout, or scikit-learn's digits.

Every source ends as the same four uint8 arrays.  Archives are read as a stream into them, never extracted.
"""

import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.io.download import Progress, download, without_secrets

# https://www.cs.toronto.edu/~kriz/cifar.html publishes the MD5; the SHA-256 is that of the same 170,052,171 bytes
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
TEST_FILE = "test_batch.bin"
CLASSES_FILE = "batches.meta.txt"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32
"""bytes of an image in a .bin file: its label, then the red, green and blue planes, each row by row"""

SOURCES = f"cifar10, digits, a folder or .tar.gz archive laid out like {ARCHIVE}, s3://bucket/prefix"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images and what they show.  Raises ValueError for arrays of other shapes or types."""

    images: Bytes
    """(N, 32, 32, 3) uint8, RGB"""
    labels: Bytes
    """(N,) uint8, indices into the dataset's classes"""

    def __post_init__(self) -> None:
        count = len(self.labels)
        for field, array, shape in (("images", self.images, (count, 32, 32, 3)), ("labels", self.labels, (count,))):
            if array.shape != shape or array.dtype != np.uint8 or not array.flags.c_contiguous:
                raise ValueError(f"{field} must be contiguous uint8 of shape {shape}. Received: {array.dtype} of shape {array.shape}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    name: str
    """what tables call it"""
    train: Split
    test: Split
    classes: tuple[str, ...]
    """names, in the order of the labels"""
    source: str
    """where it came from, without credentials"""
    checksums: dict[str, str]
    """SHA-256 of each file that was read"""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the bytes of train images, train labels, test images, test labels, whatever files they were in."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(split.images.reshape(-1).data)
            digest.update(split.labels.data)
        return digest.hexdigest()


def load(
    source: str,
    *,
    cache: Path,
    mirror: str | None = None,
    progress: Progress | None = None,
    fetch: Callable[[str, Path], Path] | None = None,
) -> Dataset:
    """The dataset that `source` names: see SOURCES.

    `mirror` replaces the URL of the archive of `cifar10`; one that ends in `/` is a folder that holds the archive under its own name.
    `fetch(url, cache)` brings an `s3://` source to a local folder or archive; by default `copies.fetch_dataset` does.  A folder called
    `digits` is reached as `./digits`.
    Raises JobError: USAGE for a source that is not there, DATA for a damaged file, and what `download` raises.
    """
    if source == "digits":
        return _digits()
    if source == "cifar10":
        url = URL if not mirror else mirror + ARCHIVE if mirror.endswith("/") else mirror
        archive = download(url, cache / ARCHIVE, sha256=SHA256, md5=MD5, progress=progress)
        dataset = _read(archive, name="cifar10", source=without_secrets(url))
        return replace(dataset, checksums={ARCHIVE: SHA256, **dataset.checksums})
    if source.startswith("s3://"):
        origin = without_secrets(source)
        return _read(fetch(source, cache) if fetch else _fetch(source, cache, progress), name=_name(PurePosixPath(origin)), source=origin)
    if "://" in source:
        raise JobError(
            Exit.USAGE, f"--data: a URL other than s3://. Allowed: {SOURCES}. For a copy of CIFAR-10: --data cifar10 --mirror URL"
        )
    try:
        path = Path(source).expanduser()
        there = source != "" and path.exists()
    except (OSError, RuntimeError):  # a name too long, a folder without access, ~nobody
        there = False
    if not there:
        raise JobError(Exit.USAGE, f"--data {source!r}: neither a known dataset nor a path that exists. Allowed: {SOURCES}")
    return _read(path, name=_name(path.resolve()), source=source)


def _fetch(url: str, cache: Path, progress: Progress | None) -> Path:
    from job.io.copies import fetch_dataset
    from job.io.store import open_store

    return fetch_dataset(open_store(url), cache, progress)


def subset(dataset: Dataset, n: int) -> Dataset:
    """The first `n` training images and the first max(1, n // 5) test images, copied so that the rest can be freed.

    Raises JobError (USAGE) where there are fewer.
    """

    def first(count: int, kind: str, split: Split) -> Split:
        if not 1 <= count <= len(split):
            raise JobError(
                Exit.USAGE, f"a subset of {n} takes {count} {kind} images: {dataset.name} has {len(split)}. Expected from 1 to {len(split)}"
            )
        return Split(images=split.images[:count].copy(), labels=split.labels[:count].copy())

    train, test = first(n, "training", dataset.train), first(max(1, n // 5), "test", dataset.test)
    return replace(dataset, name=f"{dataset.name}[:{n}]", train=train, test=test)


def _name(path: PurePath) -> str:
    return re.sub(r"\.(tar\.gz|tgz)$", "", path.name)


def _digits() -> Dataset:
    """The 1,797 digits that come with scikit-learn, 8 by 8 pixels of 0 to 16; every fifth image of each class is for the test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.uint8)
    grey = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)  # (1797, 8, 8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)  # (1797, 32, 32, 3)
    for_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        for_test[np.flatnonzero(labels == label)[4::5]] = True
    return Dataset(
        name="digits",
        train=Split(images=images[~for_test], labels=labels[~for_test]),
        test=Split(images=images[for_test], labels=labels[for_test]),
        classes=tuple("0123456789"),
        source="sklearn.datasets.load_digits",
        checksums={},
    )


def _read(path: Path, *, name: str, source: str) -> Dataset:
    try:
        if path.is_dir():
            inner = path / FOLDER
            folder = inner if inner.is_dir() else path
            files = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
            return _assemble(folder, files, lambda file: (folder / file).open("rb"), name=name, source=source)
        with _members(path) as (archive, members):
            files = {file: member.size for file, member in members.items()}
            return _assemble(path, files, lambda file: _open(archive, members[file]), name=name, source=source)
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, LookupError, OverflowError) as error:
        # the last three are what tarfile lets escape when a header holds nonsense
        thing, what = path, f"not a whole .tar.gz archive ({error})"
        if isinstance(error, OSError) and error.errno is not None:
            thing, what = error.filename or path, f"could not be read ({error.strerror})"
        raise _damaged(thing, what, f"a folder or .tar.gz archive laid out like {ARCHIVE}") from None


@contextmanager
def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]]:
    """An archive and its files by bare name, in the order in which they are stored.

    The first of two passes: it learns the sizes, so that the second reads every image straight to its place, and it reads on to the
    checksum at the end of the gzip stream, which tarfile does not.
    """
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        members: dict[str, tarfile.TarInfo] = {}
        for member in archive:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts:
                raise _damaged(f"{path}: {member.name}", "a member outside the archive's folder", "relative names without ..")
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise _damaged(f"{path}: {member.name}", "a link or a special file", "plain files and folders")
            if member.isreg() and str(place.parent) in (".", FOLDER):
                if place.name in members:
                    raise _damaged(f"{path}: {place.name}", "there twice", "each file once")
                members[place.name] = member
        while stream.read(1 << 20):
            pass
        yield archive, members


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None, "a regular file, as `_members` has checked"
    return file


def _assemble(where: Path, files: Mapping[str, int], open_file: Callable[[str], IO[bytes]], *, name: str, source: str) -> Dataset:
    """Read `files` (name to bytes) in the order given, each straight to its place in the arrays."""
    train_files = _train_files(where, files)
    counts = {file: _count(where / file, files[file]) for file in [*train_files, TEST_FILE]}
    train, test = _empty(sum(counts[file] for file in train_files)), _empty(counts[TEST_FILE])
    places, start = {TEST_FILE: test}, 0
    for file in train_files:
        rows = slice(start, start + counts[file])
        places[file], start = Split(images=train.images[rows], labels=train.labels[rows]), rows.stop
    classes: tuple[str, ...] = CLASSES
    checksums: dict[str, str] = {}
    for file in files:
        if file in places:
            with open_file(file) as stream:
                checksums[file] = _fill(places[file], stream, where / file)
        elif file == CLASSES_FILE:
            with open_file(file) as stream:
                text = stream.read()
            classes, checksums[file] = _class_names(text, where / file), hashlib.sha256(text).hexdigest()
    return Dataset(name=name, train=train, test=test, classes=classes, source=source, checksums=checksums)


def _train_files(where: Path, files: Mapping[str, int]) -> list[str]:
    numbers = [int(match[1]) for file in files if (match := re.fullmatch(r"data_batch_([1-9]\d{0,8})\.bin", file))]
    wanted = [f"data_batch_{number}.bin" for number in range(1, max(len(numbers), 1) + 1)]
    for file in [*wanted, TEST_FILE]:
        if file not in files:
            raise _damaged(where, f"{file} is missing", f"data_batch_1.bin to data_batch_k.bin and {TEST_FILE}, there or in {FOLDER}/")
    return wanted


def _count(file: Path, size: int) -> int:
    if size == 0 or size % RECORD:
        raise _damaged(file, f"{size} bytes", f"a positive multiple of {RECORD}")
    return size // RECORD


def _empty(count: int) -> Split:
    return Split(images=np.empty((count, 32, 32, 3), np.uint8), labels=np.empty(count, np.uint8))


def _fill(place: Split, stream: IO[bytes], file: Path) -> str:
    """Read as many records as `place` holds, some at a time, and return the SHA-256 of their bytes."""
    digest = hashlib.sha256()
    for start in range(0, len(place), 256):
        rows = slice(start, min(start + 256, len(place)))
        wanted = (rows.stop - start) * RECORD
        block = stream.read(wanted)
        if len(block) != wanted:
            raise _damaged(file, f"ends after {start * RECORD + len(block)} bytes", f"{len(place) * RECORD} bytes")
        digest.update(block)
        records = np.frombuffer(block, np.uint8).reshape(-1, RECORD)
        place.labels[rows] = records[:, 0]
        place.images[rows] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        wrong = np.flatnonzero(records[:, 0] > 9)
        if wrong.size:
            raise _damaged(file, f"record {start + wrong[0]} has label {records[wrong[0], 0]}", "labels from 0 to 9")
    return digest.hexdigest()


def _class_names(text: bytes, file: Path) -> tuple[str, ...]:
    names = tuple(line.strip() for line in text.decode("utf-8", errors="replace").splitlines() if line.strip())
    if len(names) != 10 or len(set(names)) != 10:
        raise _damaged(file, f"{len(names)} class names, {len(set(names))} of them different", "10 names, one a line")
    return names


def _damaged(thing: Path | str, found: str, expected: str) -> JobError:
    return JobError(
        Exit.DATA,
        f"{thing}: {found}. Expected {expected}. Replace it with an undamaged copy, or use --data cifar10 to download the original.",
    )
