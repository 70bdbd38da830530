"""Images per second of a run's steps, from the lines of its logging intervals."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from job.core.identity_records import ContributionRecord
from job.core.records import EpochLine, MetricsLine


def step_speeds(lines: Iterable[MetricsLine]) -> NDArray[np.float64]:
    """(steps,) images/s of each optimiser step: that of its logging interval.

    Over these are medians and percentiles taken.  The last interval of an epoch may be a single step long and much slower or faster
    than the others; it counts as the one step that it is.
    """
    intervals = [line for line in lines if line["kind"] == "interval"]
    steps = np.diff([0, *(line["step"] for line in intervals)])
    return np.repeat(np.array([line["images_per_second"] for line in intervals], dtype=np.float64), steps)


Platform = tuple[str, str]
"""engine and device"""


def speeds_by_platform(lines: Iterable[MetricsLine], contributions: Iterable[ContributionRecord]) -> dict[Platform, NDArray[np.float64]]:
    """Each engine and device, in order of appearance → (steps,) images/s of the steps that were taken there.

    An interval in which one attempt took over from another was timed by the second, so the first one's steps of it are left out."""
    intervals = [line for line in lines if line["kind"] == "interval"]
    found: dict[Platform, NDArray[np.float64]] = {}
    for one in contributions:
        own = [line for line in intervals if one["first_step"] <= line["step"] <= one["last_step"]]
        steps = np.diff([one["first_step"] - 1, *(line["step"] for line in own)])
        speeds = np.repeat(np.array([line["images_per_second"] for line in own], dtype=np.float64), steps)
        if len(speeds):
            platform = one["engine"], one.get("device", "unknown")
            found[platform] = np.concatenate([found.get(platform, speeds[:0]), speeds])
    return found


def seconds_per_step(epochs: Sequence[EpochLine]) -> float | None:
    """At the pace of the last whole epoch, its evaluation and checkpoint included and start-ups left out; None before there is one."""
    if not epochs:
        return None
    spent = sum(seconds for purpose, seconds in epochs[-1]["seconds"].items() if purpose != "start-up")
    return spent * epochs[-1]["epoch"] / epochs[-1]["step"]
