"""A step counts once, however long the logging interval is that it lies in."""

import numpy as np

from job.core.throughput import step_speeds


def interval(step: int, speed: float) -> dict[str, object]:
    return {"kind": "interval", "step": step, "images_per_second": speed}


def test_a_short_last_interval_of_an_epoch_counts_as_its_steps():
    """45 steps an epoch, logged every 40: half of the intervals are five steps long, and five times as fast."""
    lines = [interval(40, 100.0), interval(45, 500.0), {"kind": "epoch", "step": 45}, interval(85, 110.0), interval(90, 510.0)]
    speeds = step_speeds(lines)
    assert speeds.tolist() == [100.0] * 40 + [500.0] * 5 + [110.0] * 40 + [510.0] * 5
    assert np.median(speeds) == 110  # the median of the four intervals is 305


def test_no_interval_no_step():
    assert step_speeds([{"kind": "epoch", "step": 45}]).size == 0
