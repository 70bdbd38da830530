"""A step counts once, however long the logging interval is that it lies in."""

import pytest

from job.core.throughput import Steps, steps_by_platform


def interval(step: int, speed: float, size: int = 224) -> dict[str, object]:
    return {"kind": "interval", "step": step, "images_per_second": speed, "image_size": size}


def test_a_short_last_interval_of_an_epoch_counts_as_its_steps():
    """45 steps an epoch, logged every 40: half of the intervals are five steps long, and five times as fast."""
    lines = [interval(40, 100.0), interval(45, 500.0), {"kind": "epoch", "step": 45}, interval(85, 110.0), interval(90, 510.0)]
    steps = Steps.of(lines)
    assert steps.speeds.tolist() == [100.0] * 40 + [500.0] * 5 + [110.0] * 40 + [510.0] * 5
    assert steps.typical == 110  # the median of the four intervals is 305


def test_of_two_image_sizes_the_typical_speed_is_all_images_by_their_time():
    """40 steps at 400 images/s and 40 at 100, each with a short interval beside: the median of all would be one of the two."""
    lines = [interval(40, 400.0, 96), interval(45, 900.0, 96), interval(85, 100.0), interval(90, 20.0)]
    assert Steps.of(lines).typical == pytest.approx(2 / (1 / 400 + 1 / 100))
    older = [{key: value for key, value in line.items() if key != "image_size"} for line in lines[:2]]
    assert Steps.of(older).typical == 400


def test_each_engine_and_device_has_its_own():
    """Steps 11 to 13 were taken by the first attempt; the line of their interval was timed by the second one."""
    lines = [interval(10, 100.0), interval(20, 900.0), interval(30, 910.0), interval(40, 104.0)]
    of = [("torch", "cpu", 1, 13), ("torch", "a GPU", 14, 30), ("torch", "cpu", 31, 40), ("tensorflow", "cpu", 41, 40)]
    contributions = [{"engine": e, "device": d, "first_step": first, "last_step": last} for e, d, first, last in of]
    found = {" on ".join(platform): steps.speeds.tolist() for platform, steps in steps_by_platform(lines, contributions).items()}
    assert found == {"torch on cpu": [100.0] * 10 + [104.0] * 10, "torch on a GPU": [900.0] * 7 + [910.0] * 10}


def test_no_interval_no_step():
    assert Steps.of([{"kind": "epoch", "step": 45}]).typical is None
