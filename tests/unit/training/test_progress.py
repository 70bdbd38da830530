"""What a training counts on its way."""

import numpy as np
import pytest

from job.core.recipe import Recipe
from job.training.progress import Progress, Workload


def progress_of(**values):
    """45 steps of 20 images in an epoch."""
    return Progress(Workload.of(Recipe(batch_size=20, **values), np.zeros(900, np.uint8), seed=0))


def interval(progress, steps, speed):
    progress.step += steps
    progress.count([1.0] * steps, [10] * steps)
    return progress.end_interval(learning_rate=0.1, images_per_second=speed)


def test_the_median_speed_is_that_of_the_median_step():
    progress = progress_of(epochs=2)
    for epoch in range(2):
        for steps, speed in ((40, 100.0 + 10 * epoch), (5, 500.0)):
            interval(progress, steps, speed)
        progress.end_epoch({"kind": "epoch", "epoch": epoch + 1})
    assert [progress.median_speed(1), progress.median_speed(2)] == [100, 110]


def test_the_time_that_is_left_knows_the_image_sizes():
    """One epoch at 96 pixels, two at 224: by operations as long as 4.48 at 96.  Evaluation and checkpoint are as long in each."""
    progress = progress_of(epochs=3, progressive_resizing="96:0.34")
    heavier = Recipe().architecture().flop / Recipe(image_size=96).architecture().flop
    assert progress.seconds_left is None
    assert interval(progress, 9, 100.0)["image_size"] == 96
    assert progress.seconds_left == pytest.approx((36 + 90 * heavier) * 20 / 100)
    interval(progress, 36, 100.0)
    seconds = {"start-up": 99.0, "step": 9.0, "evaluation": 4.0, "other": 0.5}
    progress.end_epoch({"kind": "epoch", "epoch": 1, "step": 45, "seconds": seconds})
    assert progress.seconds_left == pytest.approx(2 * (9 * heavier + 4.5))
    assert interval(progress, 45, 25.0)["image_size"] == 224
    progress.end_epoch({"kind": "epoch", "epoch": 2, "step": 90, "seconds": {"step": 36.0, "evaluation": 4.0}})
    assert progress.seconds_left == pytest.approx(40)
