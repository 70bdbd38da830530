"""Figures about a run's use of its machine, by hand."""

import pytest

from job.analysis.efficiency import closing_lines, efficiency, speed_text, wall_seconds
from job.core.throughput import Steps

TIME = {"start-up": 10.0, "data": 0.0, "step": 60.0, "evaluation": 8.0, "checkpoint stall": 2.0, "upload wait": 0.01, "other": 0.0}
INTERVALS = [{"kind": "interval", "step": 10 * n, "images_per_second": 99.0 + n} for n in range(1, 102)]
EPOCHS = [{"kind": "epoch", "train_images": 1000, "energy_joules": 50.0}, {"kind": "epoch", "train_images": 1000, "energy_joules": 30.0}]


def figures(lines=INTERVALS, resources=None, **changes):
    given = {"totals": TIME, "wall_seconds": 120.0, "flop": 6_000_000, "resources": resources or {}, **changes}
    return efficiency(steps=Steps.of(lines), lines=lines, **given)


def test_speed_and_goodput():
    found = figures()
    assert found["goodput"] == 0.5
    assert found["images_per_second_p5"] == 105
    assert found["flop_per_second"] == 150 * 6e6
    assert found["time"] == TIME
    assert "images_per_joule" not in found


def test_energy():
    found = figures([*INTERVALS, *EPOCHS])
    assert found["energy_joules_per_epoch"] == 40
    assert found["images_per_joule"] == 25


def test_energy_of_epochs_that_were_not_measured_does_not_count():
    """The first one was resumed in its middle, or its GPU has no counter."""
    found = figures([*INTERVALS, {"kind": "epoch", "train_images": 1000}, *EPOCHS[1:]])
    assert found["images_per_joule"] == pytest.approx(1000 / 30)
    assert "images_per_joule" not in figures([*INTERVALS, {"kind": "epoch", "train_images": 1000}])


def test_a_run_without_intervals():
    found = figures([])
    assert (found["images_per_second_p5"], found["flop_per_second"]) == (None, None)


def test_wall_time_of_all_attempts():
    rows = [{"attempt": "0001-a", "process_seconds": s} for s in (5.0, 6.0, 7.5)] + [{"attempt": "0002-b", "process_seconds": 3.0}]
    assert wall_seconds([*rows, {"attempt": "0003-c", "process_seconds": 99.0}], "0003-c", 20.0) == 30.5
    assert wall_seconds([{"attempt": "0001-a"}], "0002-b", 20.0) == 20.0


def test_closing_lines():
    finding = {"title": "Start-up dominates", "seen": "Seen.", "when": "before the first step", "change": "Change."}
    summary = figures([*INTERVALS, *EPOCHS], {"peak_gpu_memory_bytes": 5e9}) | {
        "images_per_second": 150.0,
        "speeds": [],
        "peak_host_memory_bytes": 1.5e9,
        "findings": [finding],
    }
    assert closing_lines(summary) == [
        "time: start-up 10.0 s (12%), step 60.0 s (75%), evaluation 8.0 s (10%), checkpoint stall 2.0 s (2%); "
        "goodput 50% of 120 s in all attempts",
        "speed: 150 images/s in the median, 105 at the 5th percentile, 900.0 MFLOP/s",
        "memory: at most 1.50 GB of the host's, 5.00 GB of the GPU's",
        "energy: 0.0 kJ for an epoch, 25.00 images per joule",
        "Start-up dominates (before the first step): Seen. Change.",
    ]


def test_the_speed_of_each_engine_and_device():
    of = [("torch", "a GPU", 9000.0), ("tensorflow", "cpu", 98.4)]
    speeds = [{"engine": engine, "device": device, "images_per_second": speed} for engine, device, speed in of]
    assert speed_text({"speeds": speeds}) == "9000 images/s by torch on a GPU, 98 images/s by tensorflow on cpu"


@pytest.mark.parametrize(("flop", "text"), [(6_000_000_000, "900.0 GFLOP/s"), (12_000_000_000, "1.8 TFLOP/s")])
def test_prefixes(flop, text):
    assert text in closing_lines(figures(flop=flop) | {"images_per_second": 150.0, "speeds": []})[1]
