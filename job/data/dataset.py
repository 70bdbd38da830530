"""A dataset in memory: whatever its source, the same four uint8 arrays, and a fingerprint of their bytes."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError

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
