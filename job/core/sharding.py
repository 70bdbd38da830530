"""Gradient shards: why a step has the same bytes for any number of workers.

A batch of B images is cut by position into S shards, S being fixed when the run begins.  Each of W workers computes S/W of them, one after
the other, and all S gradients are added in one binary tree over their numbers: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)).  A sum of two
has one order only, so neither W nor the way in which two workers add their parts can change a bit.  S and W are powers of two.
"""

from collections.abc import Callable
from typing import TypeVar

from job.core.exits import Exit, JobError

T = TypeVar("T")


def tree_sum(leaf: Callable[[int], T], add: Callable[[T, T], T], shards: range) -> T:
    """Of `leaf(number)` over these shards, whose count is a power of two; at most log2 of it + 1 parts live at a time."""
    if len(shards) == 1:
        return leaf(shards[0])
    half = len(shards) // 2
    return add(tree_sum(leaf, add, shards[:half]), tree_sum(leaf, add, shards[half:]))


def shards_of(rank: int, workers: int, shards: int) -> range:
    """Numbers of the shards that a worker computes."""
    each = shards // workers
    return range(rank * each, (rank + 1) * each)


def pairs(workers: int) -> list[list[tuple[int, int]]]:
    """The upper levels of the tree: for each level the pairs of workers that add up what they have.  Each worker is in one pair of it."""
    distances = [1 << level for level in range(workers.bit_length() - 1)]
    return [[(rank, rank + distance) for rank in range(workers) if not rank & distance] for distance in distances]


def check_power_of_two(name: str, value: int) -> None:
    """Raises JobError (2) that names the next possible value."""
    if value & (value - 1):
        below = 1 << (value.bit_length() - 1)
        raise JobError(Exit.USAGE, f"{name} {value}: expected a power of two, such as {below} or {2 * below}.")


def check_shards(batch_size: int, shards: int, workers: int) -> None:
    """Raises JobError (2) that names the next possible value."""
    check_power_of_two("--shards", shards)
    if workers > shards:
        raise JobError(
            Exit.USAGE,
            f"{workers} workers cannot share the {shards} gradient shards of this run, which were fixed when it began. Expected at most "
            f"--workers {shards}; a new run with --shards {workers} can have more.",
        )
    if batch_size % shards:
        above = -(-batch_size // shards) * shards
        raise JobError(
            Exit.USAGE,
            f"batch_size = {batch_size} cannot be cut into {shards} equal shards (--shards, default: the workers of the run's start). "
            f"The next possible one is --batch-size {above}.",
        )
