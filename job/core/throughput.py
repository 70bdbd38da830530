"""How fast a run's steps are, from the lines of its logging intervals, and how long it still takes."""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from job.core.identity_records import ContributionRecord
from job.core.recipe import Recipe
from job.core.records import EpochLine, MetricsLine
from job.core.schedule import image_size


class Steps(NamedTuple):
    """Optimiser steps, each as fast as its logging interval.

    Over these are medians and percentiles taken.  The last interval of an epoch may be a single step long and much slower or faster
    than the others; it counts as the one step that it is.
    """

    speeds: NDArray[np.float64]
    """(steps,) images/s"""
    sizes: NDArray[np.int64]
    """(steps,) side of the images in pixels; 0: an older version did not record it"""

    @classmethod
    def of(cls, lines: Iterable[MetricsLine], *, after: int = 0) -> Self:
        """Those of the logging intervals in `lines`; `after`: the step before the first."""
        intervals = [line for line in lines if line["kind"] == "interval"]
        steps = np.diff([after, *(line["step"] for line in intervals)])
        speeds = np.array([line["images_per_second"] for line in intervals], dtype=np.float64)
        sizes = np.array([line.get("image_size", 0) for line in intervals], dtype=np.int64)
        return cls(np.repeat(speeds, steps), np.repeat(sizes, steps))

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """All of the parts' steps."""
        speeds, sizes = zip(*parts, strict=True)
        return cls(np.concatenate(speeds), np.concatenate(sizes))

    @property
    def typical(self) -> float | None:
        """Images/s of the median step; of several image sizes, all images by the time that the median step of each size takes."""
        medians = {size: float(np.median(self.speeds[self.sizes == size])) for size in np.unique(self.sizes).tolist()}
        if len(medians) < 2:
            return next(iter(medians.values()), None)
        return len(self.speeds) / sum(np.count_nonzero(self.sizes == size) / max(speed, 0.05) for size, speed in medians.items())


Platform = tuple[str, str]
"""engine and device"""


def steps_by_platform(lines: Iterable[MetricsLine], contributions: Iterable[ContributionRecord]) -> dict[Platform, Steps]:
    """Each engine and device, in order of appearance → the steps that were taken there.

    An interval in which one attempt took over from another was timed by the second, so the first one's steps of it are left out."""
    intervals = [line for line in lines if line["kind"] == "interval"]
    found: dict[Platform, Steps] = {}
    for one in contributions:
        own = [line for line in intervals if one["first_step"] <= line["step"] <= one["last_step"]]
        if own:
            platform = one["engine"], one.get("device", "unknown")
            steps = Steps.of(own, after=one["first_step"] - 1)
            found[platform] = Steps.joined([found[platform], steps]) if platform in found else steps
    return found


def seconds_left(recipe: Recipe, last: EpochLine, step: int, steps: int) -> float:
    """That a run still takes from `step` of `steps` on, at the pace of its `last` whole epoch: evaluation and checkpoint included, start-up
    left out."""
    spent, per_epoch = last["seconds"], last["step"] / last["epoch"]
    beside = sum(seconds for purpose, seconds in spent.items() if purpose not in ("start-up", "step"))
    return (spent.get("step", 0.0) * steps_left(recipe, step, steps, like=last["epoch"] - 1) + beside * (steps - step)) / per_epoch


def steps_left(recipe: Recipe, step: int, steps: int, *, like: int) -> float:
    """From `step` of `steps` on, each counted by how many operations it has beside a step of epoch `like`, from 0: images may grow."""
    per_epoch = steps // recipe.epochs
    flop = {size: recipe.architecture(image_size=size).flop for size in recipe.image_sizes}
    sizes = [image_size(recipe, epoch, recipe.epochs) for epoch in range(recipe.epochs)]
    left = (min(max(end - step, 0), per_epoch) for end in range(per_epoch, steps + 1, per_epoch))
    return sum(count * flop[size] for count, size in zip(left, sizes, strict=True)) / flop[sizes[like]]
