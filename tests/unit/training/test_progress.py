"""What a training counts on its way."""

import numpy as np

from job.training.progress import Progress, Workload


def test_the_median_speed_is_that_of_the_median_step():
    progress = Progress(Workload(train=np.arange(900), validation=np.arange(0), batch_size=20, epochs=2))
    for epoch in range(2):
        for steps, speed in ((40, 100.0 + 10 * epoch), (5, 500.0)):
            progress.step += steps
            progress.count([1.0] * steps, [10] * steps)
            progress.end_interval(learning_rate=0.1, images_per_second=speed)
        progress.end_epoch({"kind": "epoch", "epoch": epoch + 1})
    assert [progress.median_speed(1), progress.median_speed(2)] == [100, 110]
