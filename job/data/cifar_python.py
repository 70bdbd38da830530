"""CIFAR-10 as torchvision and Keras download it (`cifar-10-python.tar.gz`): pickled batches, of which nothing is executed."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from job.core import pickles
from job.core.pickles import Name, Refused
from job.data.cifar_binary import CLASSES, class_names, damaged
from job.data.dataset import Dataset, Split

TRAIN_FILE = re.compile(r"data_batch_([1-9]\d{0,8})")
TEST_FILE = "test_batch"
CLASSES_FILE = "batches.meta"
PIXELS = 3 * 32 * 32
LONGEST = 1 << 28
"""bytes of a batch; an official one has 31 MB"""
ARRAY, DTYPE, ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
MAKERS = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
BYTE_TYPES = ("u1", "|u1", "uint8")


@dataclass
class _Array:
    """A NumPy array, as far as the pickle has described it."""

    shape: tuple[int, ...] = ()
    pixels: bytes = b""


def is_python(files: Mapping[str, int]) -> bool:
    """Are these the files of this layout?"""
    return TEST_FILE in files or any(TRAIN_FILE.fullmatch(file) for file in files)


def assemble(where: Path, files: Mapping[str, int], open_file: Callable[[str], IO[bytes]], *, name: str, source: str) -> Dataset:
    """Read `files` (name to bytes) in the order given.  Raises JobError (DATA), naming the file."""
    count = sum(TRAIN_FILE.fullmatch(file) is not None for file in files)
    wanted = [*(f"data_batch_{number}" for number in range(1, max(count, 1) + 1)), TEST_FILE]
    for file in wanted:
        if file not in files:
            raise damaged(where, f"{file} is missing", f"data_batch_1 to data_batch_k and {TEST_FILE}")
    classes: tuple[str, ...] = CLASSES
    checksums, batches = dict[str, str](), dict[str, Split]()
    for file in files:
        if file not in (*wanted, CLASSES_FILE):
            continue
        if files[file] > LONGEST:
            raise damaged(where / file, f"{files[file]} bytes", f"at most {LONGEST}")
        with open_file(file) as stream:
            data = stream.read()
        checksums[file] = hashlib.sha256(data).hexdigest()
        try:
            record = _record(data)
            if file == CLASSES_FILE:
                classes = class_names([_text(each) for each in record["label_names"]], where / file)
            else:
                batches[file] = _batch(record)
        except (Refused, KeyError, TypeError) as error:
            what = f"it holds no {error}" if isinstance(error, KeyError) else str(error)
            raise damaged(where / file, f"{what} (nothing in it was executed)", "a batch of CIFAR-10's Python version") from None
    train = [batches[file] for file in wanted[:-1]]
    return Dataset(
        name=name,
        train=Split(images=np.concatenate([part.images for part in train]), labels=np.concatenate([part.labels for part in train])),
        test=batches[TEST_FILE],
        classes=classes,
        source=source,
        checksums=checksums,
    )


def _record(data: bytes) -> dict[str, Any]:
    """The dictionary in the file, its keys as text."""
    found = pickles.described(data, allowed={*MAKERS, ARRAY, DTYPE, ENCODE}, call=_called, set_state=_set_state)
    if not isinstance(found, dict):
        raise Refused("it holds no dictionary")
    return {_text(key): value for key, value in found.items()}


def _batch(record: dict[str, Any]) -> Split:
    array, labels = record["data"], record["labels"]
    if not isinstance(array, _Array) or len(array.shape) != 2 or array.shape[1] != PIXELS or not array.shape[0]:
        raise Refused(f"its data is no table of rows of {PIXELS} bytes")
    if len(array.pixels) != array.shape[0] * PIXELS:
        raise Refused(f"its data has {len(array.pixels)} bytes for {array.shape[0]} images")
    if not isinstance(labels, list) or len(labels) != array.shape[0] or not all(type(n) is int and 0 <= n <= 9 for n in labels):
        raise Refused("its labels are not one number from 0 to 9 for each image")
    planes = np.frombuffer(array.pixels, np.uint8).reshape(-1, 3, 32, 32)
    return Split(images=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels=np.array(labels, np.uint8))


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    match function, arguments:
        case Name(name=name), (Name(name=kind), *_) if name in MAKERS and kind == ARRAY:
            return _Array()
        case Name(name=name), (str() as kind, *_) if name == DTYPE and kind in BYTE_TYPES:
            return Name(DTYPE)
        case Name(name=name), (str() as text, "latin1") if name == ENCODE:  # how protocol 2 of Python 3 writes bytes
            return text.encode("latin-1")
    raise Refused("it calls something with unexpected arguments")


def _set_state(thing: Any, state: Any) -> None:
    """Of an array: version, shape, type, whether columns come first, bytes.  Of a type: nothing that matters to a byte."""
    match thing, state:
        case _Array(), (int(), tuple() as shape, Name(name=kind), False, (str() | bytes()) as pixels) if kind == DTYPE:
            thing.shape = tuple(size for size in shape if type(size) is int and size >= 0)
            thing.pixels = pixels.encode("latin-1") if isinstance(pixels, str) else pixels
        case Name(name=kind), tuple() if kind == DTYPE:
            pass
        case _:
            raise Refused("it gives something an unexpected state")


def _text(value: Any) -> str:
    """Keys and names are text in one version of Python, and bytes in the other."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
