"""safetensors files, written tensor by tensor: no second copy of the weights is ever in memory, and no pickle anywhere.

Format: https://huggingface.co/docs/safetensors (8 bytes little-endian length, a JSON header, the tensors one after the other).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError

KINDS = {"float32": "F32", "float64": "F64"}


class Header:
    """Names, kinds, shapes and places of the tensors in a file, in the order in which they lie there."""

    def __init__(self) -> None:
        self.tensors: dict[str, dict[str, Any]] = {}
        self.end = 0
        """bytes of all tensors so far"""

    def add(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """The next tensor.  KeyError for another `dtype` than float32 and float64."""
        start, self.end = self.end, self.end + prod(shape) * np.dtype(dtype).itemsize
        self.tensors[name] = {"dtype": KINDS[dtype], "shape": list(shape), "data_offsets": [start, self.end]}

    def as_object(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        return {"__metadata__": dict(metadata), **self.tensors}

    def encode(self, metadata: Mapping[str, str]) -> bytes:
        """The file up to its first tensor: blanks fill the JSON up to a multiple of 8 bytes."""
        text = json.dumps(self.as_object(metadata), separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def stored_bytes(array: NDArray[Any], dtype: str) -> memoryview:
    """The tensor's numbers as they lie in the file: little-endian, in C order."""
    return np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).data


def write_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, tensors: Iterable[tuple[str, NDArray[Any]]]) -> None:
    """Write `tensors`, which come in the order of `shapes`; each is written before the next is asked for."""
    header = Header()
    for name, shape in shapes.items():
        header.add(name, dtype, shape)
    with path.open("wb") as file:
        file.write(header.encode({"format": "pt"}))
        for (expected, shape), (name, array) in zip(shapes.items(), tensors, strict=True):
            assert name == expected, f"tensor {name} came where {expected} was due"
            assert array.shape == shape, f"{name}: shape {array.shape} instead of {shape}"
            file.write(stored_bytes(array, dtype))


def read_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Iterator[tuple[str, NDArray[Any]]]:
    """(name, array) one at a time.  With `shapes`: exactly these tensors.  Raises JobError (65), naming the file and the tensor."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            for name in shapes or names:
                if name not in names:
                    raise JobError(Exit.DATA, f"{path}: there is no tensor {name}. Expected an AlexNet in torchvision's naming.")
                array = file.get_tensor(name)
                if shapes is not None and array.shape != tuple(shapes[name]):
                    raise JobError(
                        Exit.DATA,
                        f"{path}: tensor {name} has shape {array.shape}, expected {tuple(shapes[name])}. Is it of another width?",
                    )
                yield name, array
    except (SafetensorError, OSError) as error:
        raise JobError(Exit.DATA, f"{path}: not a readable safetensors file ({error}).") from error
