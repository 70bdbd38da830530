"""The official binary layout of CIFAR-10, read and written."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
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


COPY = "Replace it with an undamaged copy, or use --data cifar10 to download the original."


def damaged(thing: Path | str, found: str, expected: str, remedy: str = COPY) -> JobError:
    """Says what was found in which file or folder, what was expected, and what to do."""
    return JobError(Exit.DATA, f"{thing}: {found}. Expected {expected}. {remedy}".rstrip())


def assemble(where: Path, files: Mapping[str, int], open_file: Callable[[str], IO[bytes]], *, name: str, source: str) -> Dataset:
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
            classes, checksums[file] = (
                class_names(text.decode("utf-8", errors="replace").splitlines(), where / file),
                hashlib.sha256(text).hexdigest(),
            )
    return Dataset(name=name, train=train, test=test, classes=classes, source=source, checksums=checksums)


def _train_files(where: Path, files: Mapping[str, int]) -> list[str]:
    numbers = [int(match[1]) for file in files if (match := re.fullmatch(r"data_batch_([1-9]\d{0,8})\.bin", file))]
    wanted = [f"data_batch_{number}.bin" for number in range(1, max(len(numbers), 1) + 1)]
    for file in [*wanted, TEST_FILE]:
        if file not in files:
            raise damaged(where, f"{file} is missing", f"data_batch_1.bin to data_batch_k.bin and {TEST_FILE}, there or in {FOLDER}/")
    return wanted


def _count(file: Path, size: int) -> int:
    if size == 0 or size % RECORD:
        raise damaged(file, f"{size} bytes", f"a positive multiple of {RECORD}")
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
            raise damaged(file, f"ends after {start * RECORD + len(block)} bytes", f"{len(place) * RECORD} bytes")
        digest.update(block)
        records = np.frombuffer(block, np.uint8).reshape(-1, RECORD)
        place.labels[rows] = records[:, 0]
        place.images[rows] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        wrong = np.flatnonzero(records[:, 0] > 9)
        if wrong.size:
            raise damaged(file, f"record {start + wrong[0]} has label {records[wrong[0], 0]}", "labels from 0 to 9")
    return digest.hexdigest()


def class_names(lines: Iterable[str], file: Path) -> tuple[str, ...]:
    """Raises JobError (DATA) unless there are ten different ones."""
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != 10 or len(set(names)) != 10:
        raise damaged(file, f"{len(names)} class names, {len(set(names))} of them different", "10 names, one a line")
    return names


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
