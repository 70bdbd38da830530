"""PyTorch's own files (`.pth`), read without PyTorch and without running anything that is in them.

The format is a zip archive: `data.pkl` describes the tensors and `data/0` … hold their numbers (torch/serialization.py).
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core import pickles
from job.core.exits import Exit, JobError
from job.core.pickles import Name, Refused

STORAGES = {"torch FloatStorage": "f4", "torch DoubleStorage": "f8", "torch HalfStorage": "f2", "torch BFloat16Storage": "u2"}
"""bfloat16 is the upper half of a float32"""
OTHERS = ("torch LongStorage", "torch IntStorage", "torch ShortStorage", "torch CharStorage", "torch ByteStorage", "torch BoolStorage")
"""of counters and the like, which are left out"""
ORDERED_DICT, TENSOR, PARAMETER = "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"
ALLOWED = {*STORAGES, *OTHERS, ORDERED_DICT, TENSOR, PARAMETER}
LONGEST = 1 << 22
"""bytes of a `data.pkl`; that of AlexNet has about 1,500"""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor inside the archive."""

    kind: str
    """name of the storage's class"""
    key: str
    """`data/KEY` holds the numbers"""
    offset: int
    """in numbers, like the strides"""
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """The tensors of an open file.  Raises JobError (65), naming the file and what is in the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
            names = self._archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1:
                raise Refused("there is no data.pkl in it, as PyTorch since 1.6 writes it")
            self._prefix = pickles[0].removesuffix("data.pkl")
            big = f"{self._prefix}byteorder" in names and self._read(f"{self._prefix}byteorder", 16) == b"big"
            self._order = ">" if big else "<"
            self.tensors = described(self._read(pickles[0], LONGEST))
        except (OSError, zipfile.BadZipFile, NotImplementedError, Refused) as error:
            raise self._unreadable(error) from None

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for name in self.tensors:
            yield name, self.read(name)

    def read(self, name: str) -> NDArray[np.float32]:
        """One tensor, as float32 whatever it was."""
        stored = self.tensors[name]
        number = np.dtype(self._order + STORAGES[stored.kind])
        last = stored.offset + sum((size - 1) * stride for size, stride in zip(stored.shape, stored.strides, strict=True))
        try:
            flat = np.frombuffer(self._read(f"{self._prefix}data/{stored.key}", None), number)
            if (count := prod(stored.shape)) and (last >= len(flat) or count > len(flat)):
                raise Refused(f"tensor {name} reaches beyond its {len(flat)} numbers")
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, NotImplementedError, Refused) as error:
            raise self._unreadable(error) from None
        strides = [stride * number.itemsize for stride in stored.strides]
        array = np.lib.stride_tricks.as_strided(flat[stored.offset :], stored.shape, strides, writeable=False)
        if stored.kind == "torch BFloat16Storage":
            array = (array.astype("<u4") << 16).view("<f4")
        return np.ascontiguousarray(array, np.float32).reshape(stored.shape)  # () stays ()

    def _read(self, name: str, limit: int | None) -> bytes:
        if limit is not None and self._archive.getinfo(name).file_size > limit:
            raise Refused(f"{name} is longer than {limit} bytes")
        if self._archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise Refused(f"{name} is compressed, which PyTorch never does")
        return self._archive.read(name)

    def _unreadable(self, error: Exception) -> JobError:
        return JobError(
            Exit.DATA,
            f"{self.path}: not a state dict as `torch.save(model.state_dict(), …)` writes it ({error}). Nothing in it was executed. "
            "Expected such a file with float tensors alone, or a safetensors file.",
        )


def described(pickle: bytes) -> dict[str, Stored]:
    """Name → float tensor, of a pickled dictionary of tensors.  Raises Refused for anything else."""
    found = pickles.described(pickle, allowed=ALLOWED, call=_called, look_up=_storage)
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, Stored) for k, v in found.items()):
        raise Refused("it holds something else than a dictionary of names and tensors")
    return {name: stored for name, stored in found.items() if stored.kind in STORAGES}


def _storage(identity: Any) -> tuple[str, str]:
    word, kind, key, *_ = identity
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str):
        raise Refused("data.pkl refers to something else than a storage")
    return kind.name, key


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What the call would return, as a description."""
    match function, arguments:
        case Name(name=name), () if name == ORDERED_DICT:
            return {}
        case Name(name=name), (Stored() as stored, *_) if name == PARAMETER:
            return stored
        case Name(name=name), ((str() as kind, str() as key), int() as offset, tuple() as shape, tuple() as strides, *_) if name == TENSOR:
            whole = [n for n in (offset, *shape, *strides) if isinstance(n, int) and n >= 0]
            if len(whole) == 1 + 2 * len(shape) and len(shape) == len(strides):
                return Stored(kind=kind, key=key, offset=offset, shape=shape, strides=strides)
    raise Refused("data.pkl calls something with unexpected arguments")
