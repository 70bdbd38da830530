"""Dropout masks from a hash: the same bits in NumPy, in torch's int32 and in TensorFlow's uint32.

    keep(b, j)  =  (mix(row[b] ^ column[j]) >> 8)  >=  threshold(rate)

`row[b]` is a random word for (seed, step, layer, position b in the global batch), drawn on the host (`sampling.row_keys`).
`column[j]` = mix(j + 1) with j the feature's index in torchvision's C, H, W order.  Both are mixed before they are combined, and
the result is mixed again: with one round the masks of two images would be shifted copies of each other.
`mix` is lowbias32 (C. Wellons, "Prospecting for hash functions", 2018: x ^= x >> 16, x *= 0x7feb352d, x ^= x >> 15, x *= 0x846ca68b,
x ^= x >> 16), a bijection of 32-bit words.  The engines repeat this module's `mix` in their own integers.
"""

import numpy as np
from numpy.typing import NDArray

SHIFTS = (16, 15, 16)
MULTIPLIERS = (0x7FEB352D, 0x846CA68B)


def mix(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """lowbias32, elementwise."""
    x = words ^ (words >> np.uint32(SHIFTS[0]))
    x = x * np.uint32(MULTIPLIERS[0])
    x = x ^ (x >> np.uint32(SHIFTS[1]))
    x = x * np.uint32(MULTIPLIERS[1])
    mixed: NDArray[np.uint32] = x ^ (x >> np.uint32(SHIFTS[2]))
    return mixed


def column_keys(features: int) -> NDArray[np.uint32]:
    """(features,) one 32-bit word for each feature, in torchvision's C, H, W order."""
    return mix(np.arange(1, features + 1, dtype=np.uint32))


def threshold(rate: float) -> int:
    """A feature is dropped where the upper 24 bits of its hash are below this: with probability `rate`, rounded to a multiple of 2⁻²⁴."""
    return round(rate * 2**24)


def keep_mask(rows: NDArray[np.uint32], features: int, rate: float) -> NDArray[np.bool_]:
    """(B, features) True where the feature is kept: the reference that both engines reproduce.  `rows`: (B,) from `sampling.row_keys`."""
    words = mix(rows[:, None] ^ column_keys(features)[None, :])
    return (words >> np.uint32(8)) >= np.uint32(threshold(rate))
