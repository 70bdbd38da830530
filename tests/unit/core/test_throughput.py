"""A step counts once, however long the logging interval is that it lies in."""

import numpy as np

from job.core.throughput import speeds_by_platform, step_speeds


def interval(step: int, speed: float) -> dict[str, object]:
    return {"kind": "interval", "step": step, "images_per_second": speed}


def test_a_short_last_interval_of_an_epoch_counts_as_its_steps():
    """45 steps an epoch, logged every 40: half of the intervals are five steps long, and five times as fast."""
    lines = [interval(40, 100.0), interval(45, 500.0), {"kind": "epoch", "step": 45}, interval(85, 110.0), interval(90, 510.0)]
    speeds = step_speeds(lines)
    assert speeds.tolist() == [100.0] * 40 + [500.0] * 5 + [110.0] * 40 + [510.0] * 5
    assert np.median(speeds) == 110  # the median of the four intervals is 305


def test_each_engine_and_device_has_its_own():
    """Steps 11 to 13 were taken by the first attempt; the line of their interval was timed by the second one."""
    lines = [interval(10, 100.0), interval(20, 900.0), interval(30, 910.0), interval(40, 104.0)]
    of = [("torch", "cpu", 1, 13), ("torch", "a GPU", 14, 30), ("torch", "cpu", 31, 40), ("tensorflow", "cpu", 41, 40)]
    contributions = [{"engine": e, "device": d, "first_step": first, "last_step": last} for e, d, first, last in of]
    found = {" on ".join(platform): speeds.tolist() for platform, speeds in speeds_by_platform(lines, contributions).items()}
    assert found == {"torch on cpu": [100.0] * 10 + [104.0] * 10, "torch on a GPU": [900.0] * 7 + [910.0] * 10}


def test_no_interval_no_step():
    assert step_speeds([{"kind": "epoch", "step": 45}]).size == 0
