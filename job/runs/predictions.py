"""predictions.npz of a finished run, read without trusting it: 2 MB of a zip archive may claim to hold gigabytes.

Form: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, zipped as `numpy.savez_compressed` does.
"""

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.core.records import RunRecord

LARGEST = 1 << 29
"""bytes of logits that are read at most: ten classes for thirteen million images"""
HEADER_BYTES = 1024
"""of a .npy file, before its numbers; ours has 128"""


def parse_predictions(data: bytes, record: RunRecord, where: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(N, C) logits and (N,) labels of N test images and C classes, as many as run.json says.

    Nothing is decompressed beyond what these take.  Raises JobError (65).
    """
    images, classes = record["data"]["test_images"], len(record["data"]["classes"])
    try:
        if not 0 < images * classes * 4 <= LARGEST:
            raise ValueError(f"run.json names {images} test images of {classes} classes, which is more than is read")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _array(archive, "logits", (images, classes), "<f4"), _array(archive, "labels", (images,), "|u1")
    except (ValueError, KeyError, EOFError, OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise JobError(Exit.DATA, f"{where} is damaged: {error}. Expected the logits and labels that a run leaves.") from None


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    """Raises ValueError for another shape or type than these, before it is decompressed."""
    member, expected = archive.getinfo(f"{name}.npy"), int(np.prod(shape)) * np.dtype(kind).itemsize
    if not expected < member.file_size <= expected + HEADER_BYTES:  # zipfile gives no more than this size, whatever is in there
        raise ValueError(f"{name} have {member.file_size} bytes, {shape} by run.json take {expected}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, in_columns, dtype = read_header(file, max_header_size=HEADER_BYTES)
        if (found, dtype.str) != (shape, kind):
            raise ValueError(f"{name} are {found} of {dtype}, by run.json {shape} of {np.dtype(kind)}")
        numbers = np.frombuffer(file.read(), dtype)  # `read_array` would take memory for as many as the header says
    return numbers.reshape(shape, order="F" if in_columns else "C")
