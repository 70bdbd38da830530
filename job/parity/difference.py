"""How far two tensors are apart."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = tuple[float, float, float]
"""absolute, relative, ULP"""
NONE, UNKNOWN = (0.0, 0.0, 0.0), (math.inf, math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One tensor of both traces, or of one trace and what it must be; `note` says why the numbers are infinite."""

    kind: str
    name: str
    """layer or parameter; "" for inputs, logits and loss"""
    step: int
    """-1: before the first"""
    trace: str
    """"a" or "b": that trace in itself; "": one against the other"""
    absolute: float
    """largest |a - b|"""
    relative: float
    """the same over the largest |b|; of a kind that is measured by norm: ‖a - b‖ / ‖b‖"""
    ulp: float
    """|a - b| in units of the last place, where it is largest"""
    limit: float | None
    note: str = ""

    @property
    def fails(self) -> bool:
        return self.limit is not None and not self.relative <= self.limit

    @property
    def layer(self) -> str:
        """The row of the table: a layer, or a kind that has none."""
        parameter = self.name.rpartition("/")[2]
        return parameter.removesuffix(".weight").removesuffix(".bias") if "." in parameter or self.kind == "activations" else self.kind


def difference_of(a: NDArray[Any], b: NDArray[Any], by_norm: bool = False) -> tuple[Numbers, str]:
    """Of two arrays; and a note where it is unknown."""
    if a.shape != b.shape:
        return UNKNOWN, f"shapes {a.shape} and {b.shape}"
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return (NONE, "") if np.array_equal(a, b, equal_nan=True) else (UNKNOWN, "not all numbers are finite")
    return distance(a, b, by_norm), ""


def distance(a: NDArray[Any], b: NDArray[Any], by_norm: bool = False) -> Numbers:
    """(absolute, relative, ULP of a's type) difference of two tensors of one shape."""
    if np.array_equal(a, b):
        return NONE
    apart = np.abs(a.astype(np.float64) - b)
    place = np.unravel_index(apart.argmax(), apart.shape)
    largest = float(apart[place])
    part, whole = (largest, float(np.abs(b).max()))
    if by_norm:
        part, whole = (float(np.linalg.norm(t)) for t in (apart.ravel(), b.astype(np.float64).ravel()))
    unit = float(np.spacing(np.abs(np.stack([a[place], b[place]]).astype(a.dtype)).max()))
    return largest, part / whole if whole else math.inf, largest / unit
