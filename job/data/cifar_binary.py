"""The official binary layout: read from a folder or from an archive, as a stream that is never extracted, and written."""

import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from job.core.exits import Exit, JobError
from job.data.dataset import Dataset, Split

PER_FILE = 10_000
"""images in a training file of the official layout"""

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
TEST_FILE = "test_batch.bin"
CLASSES_FILE = "batches.meta.txt"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32
"""bytes of an image in a .bin file: its label, then the red, green and blue planes, each row by row"""


def read_binary(path: Path, *, name: str, source: str) -> Dataset:
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


def binary_files(data: Dataset) -> Iterator[tuple[str, bytes]]:
    """(name, content) in the official layout, one at a time."""
    yield CLASSES_FILE, ("\n".join(data.classes) + "\n").encode()
    for number, start in enumerate(range(0, len(data.train), PER_FILE), 1):
        rows = slice(start, start + PER_FILE)
        yield f"data_batch_{number}.bin", _records(Split(images=data.train.images[rows], labels=data.train.labels[rows]))
    yield TEST_FILE, _records(data.test)


def _records(split: Split) -> bytes:
    """Label, then the red, green and blue plane, image by image."""
    table = np.empty((len(split), RECORD), np.uint8)
    table[:, 0] = split.labels
    table[:, 1:] = split.images.transpose(0, 3, 1, 2).reshape(len(split), -1)
    return table.tobytes()
