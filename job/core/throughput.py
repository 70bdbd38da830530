"""Images per second of a run's steps, from the lines of its logging intervals."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from job.core.records import MetricsLine


def step_speeds(lines: Iterable[MetricsLine]) -> NDArray[np.float64]:
    """(steps,) images/s of each optimiser step: that of its logging interval.

    Over these are medians and percentiles taken.  The last interval of an epoch may be a single step long and much slower or faster
    than the others; it counts as the one step that it is.
    """
    intervals = [line for line in lines if line["kind"] == "interval"]
    steps = np.diff([0, *(line["step"] for line in intervals)])
    return np.repeat(np.array([line["images_per_second"] for line in intervals], dtype=np.float64), steps)
