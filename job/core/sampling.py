"""Everything random, as a function of (seed, epoch, step, position): no generator state exists, so none is saved.

Only `Philox.random_raw` and integer arithmetic are used: the raw output of a bit generator is stable across NumPy
versions (NEP 19), the methods of `numpy.random.Generator` are not.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from math import ceil

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.recipe import Recipe
from job.core.schedule import image_size

IMAGE_SIDE = 32
CROP_PADDING = 4
OFFSETS = 2 * CROP_PADDING + 1
"""A crop starts at one of 9 rows and one of 9 columns of the padded image."""
NORMALIZATION: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Means and deviations of the red, green and blue channel, of pixel values from 0 to 1."""


class Purpose(IntEnum):
    """The second word of the Philox key: different purposes have independent streams."""

    PERMUTATION = 1
    AUGMENTATION = 2
    DROPOUT = 3
    WEIGHTS = 4
    VALIDATION = 5
    IMAGES = 6
    CUTOUT = 7


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What the host sends to the device for one training step: a few kilobytes, never pixels.  B is the global batch size."""

    indices: NDArray[np.int64]
    """(B,) rows of the training set"""
    rows: NDArray[np.int64]
    """(B,) number of the matrix in `selections()` that crops the rows"""
    columns: NDArray[np.int64]
    """(B,) number of the matrix in `selections()` that crops and flips the columns"""
    centres: NDArray[np.int64]
    """(2, B) row and column of the centre of the square that is cut out; zeros where the recipe has no cutout"""
    dropout: NDArray[np.uint32]
    """(dropout layers, B) the row keys of `job.core.dropout`"""
    image_size: int
    """side in pixels to which the images are resized, one of the recipe's `image_sizes`"""

    def shard(self, number: int, shards: int) -> "StepPlan":
        """The part of shard `number` (from 0) of `shards`: B / shards positions in a row."""
        size = len(self.indices) // shards
        part = slice(number * size, (number + 1) * size)
        indices, rows, columns = self.indices[part], self.rows[part], self.columns[part]
        centres, keys = self.centres[:, part], self.dropout[:, part]
        return replace(self, indices=indices, rows=rows, columns=columns, centres=centres, dropout=keys)


def bits(seed: int, purpose: Purpose, count: int, *, major: int = 0, minor: int = 0) -> NDArray[np.uint64]:
    """(count,) random 64-bit words, a pure function of the arguments.

    Philox 4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) under the key (seed, purpose),
    its 256-bit counter starting at (0, 0, minor, major).
    """
    counter = np.array([0, 0, minor, major], dtype=np.uint64)
    key = np.array([seed, int(purpose)], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """(count,) the order in which epoch `epoch` (from 0) visits `count` images."""
    return np.argsort(bits(seed, Purpose.PERMUTATION, count, major=epoch), kind="stable").astype(np.int64)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches only; which images an epoch leaves out differs from epoch to epoch."""
    return images // batch_size


def plan(recipe: Recipe, architecture: Architecture, seed: int, order: NDArray[np.int64], *, epoch: int, step: int) -> StepPlan:
    """The plan of step `step` (from 0, within `epoch`), given that epoch's `order` of the images."""
    batch = recipe.batch_size
    draw = bits(seed, Purpose.AUGMENTATION, batch, major=epoch, minor=step)
    centre = np.full(batch, CROP_PADDING, dtype=np.int64)
    rows, columns = (_scaled(draw, 0, OFFSETS), _scaled(draw, 24, OFFSETS)) if recipe.crop else (centre, centre)
    flips = (draw >> np.uint64(63)).astype(np.int64) if recipe.flip else np.zeros(batch, dtype=np.int64)
    holes = bits(seed, Purpose.CUTOUT, batch, major=epoch, minor=step) if recipe.cutout else np.zeros(batch, np.uint64)
    step_of_run = len(order) // batch * epoch + step
    return StepPlan(
        indices=order[step * batch : (step + 1) * batch],
        rows=rows,
        columns=columns + OFFSETS * flips,
        centres=np.stack([_scaled(holes, 0, IMAGE_SIDE), _scaled(holes, 24, IMAGE_SIDE)]),
        dropout=np.stack([row_keys(seed, step_of_run, layer, batch) for layer in range(len(architecture.dropouts))]),
        image_size=image_size(recipe, epoch, recipe.epochs),
    )


def row_keys(seed: int, step: int, layer: int, batch: int) -> NDArray[np.uint32]:
    """(batch,) one 32-bit word for each position of the global batch, in step `step` of the run (from 0) and dropout layer `layer`."""
    words = bits(seed, Purpose.DROPOUT, ceil(batch / 2), major=step, minor=layer)
    return _halves(words)[:batch]


def uniform(seed: int, tensor: int, count: int) -> NDArray[np.float32]:
    """(count,) numbers in [-1, 1) in steps of 2⁻²³, exact in float32, for the weights of tensor number `tensor`."""
    words = _halves(bits(seed, Purpose.WEIGHTS, ceil(count / 2), major=tensor))[:count]
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def validation_split(seed: int, labels: NDArray[np.uint8], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, validation) indices, both ascending; the `count` validation images have the class proportions of `labels`."""
    order = np.argsort(bits(seed, Purpose.VALIDATION, len(labels)), kind="stable")
    by_class = order[np.argsort(labels[order], kind="stable")]
    held_out = by_class[(np.arange(count) * len(labels) + len(labels) // 2) // count]
    mask = np.zeros(len(labels), dtype=bool)
    mask[held_out] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def selections(size: int = 32) -> NDArray[np.float32]:
    """(18, size, size) matrices of zeros and ones: number 9·f + o selects the window at offset o of the reflect-padded
    axis, mirrored where f = 1.  Multiplied from the left with the rows of an image and (transposed) from the right with its columns,
    they crop and flip it."""
    matrices = np.zeros((2 * OFFSETS, size, size), dtype=np.float32)
    for offset in range(OFFSETS):
        source = np.arange(size) + offset - CROP_PADDING
        source = np.where(source < 0, -source, source)  # reflect, without repeating the edge
        source = np.where(source >= size, 2 * (size - 1) - source, source)
        matrices[offset, np.arange(size), source] = 1
        matrices[OFFSETS + offset, np.arange(size), source[::-1]] = 1
    return matrices


def squares(side: int, size: int = IMAGE_SIDE) -> NDArray[np.float32]:
    """(size, size) zeros and ones: row i has ones where a square of `side` pixels with its centre at i lies, cut at the borders."""
    begin = np.arange(size)[:, None] - side // 2
    pixel = np.arange(size)[None, :]
    return ((begin <= pixel) & (pixel < begin + side)).astype(np.float32)


def mean_colour(normalization: str) -> NDArray[np.float32]:
    """(3, 1, 1) pixel values that normalisation turns into zeros, but for rounding; image by image there is no such colour: grey."""
    mean, _ = NORMALIZATION.get(normalization, NORMALIZATION["half"])
    return 255 * np.array(mean, dtype=np.float32).reshape(3, 1, 1)


def resize_matrix(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) bilinear interpolation with half-pixel centres, as `tf.image.resize` and
    `F.interpolate(align_corners=False)` compute it without antialiasing."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    left = np.minimum(position.astype(np.int64), max(source - 2, 0))
    matrix = np.zeros((target, source))
    matrix[np.arange(target), left] = 1 - (position - left)
    matrix[np.arange(target), np.minimum(left + 1, source - 1)] += position - left
    return matrix


def pool_matrix(source: int, target: int) -> NDArray[np.float64]:
    """(target, source) adaptive average pooling: bin i averages floor(i·s/t) … ceil((i+1)·s/t) - 1, as PyTorch does."""
    matrix = np.zeros((target, source))
    for i in range(target):
        start, stop = i * source // target, -(-(i + 1) * source // target)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _scaled(draw: NDArray[np.uint64], shift: int, count: int) -> NDArray[np.int64]:
    """24 bits of each word, starting at bit `shift`, scaled to 0 … count - 1."""
    part = (draw >> np.uint64(shift)) & np.uint64(0xFFFFFF)
    return ((part * np.uint64(count)) >> np.uint64(24)).astype(np.int64)


def _halves(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Each word's low half, then its high half, whatever the byte order of the machine."""
    return np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=1).astype(np.uint32).reshape(-1)
