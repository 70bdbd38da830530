"""The TensorBoard file: read back by TensorBoard, written without a framework."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from job.figures.tensorboard import GrowingEvents, write_events

REPOSITORY = Path(__file__).parents[3]

WRITE = """
import json, sys
from pathlib import Path
from job.figures.tensorboard import write_events
path = write_events(Path(sys.argv[1]), json.loads(sys.argv[2]))
print(json.dumps([str(path), sorted({name.split(".")[0] for name in sys.modules})]))
"""

# `notf` is TensorBoard's own switch for its reader without TensorFlow, which the torch image has.  It checks every CRC.
READ = """
import json, sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(json.dumps({tag: [[e.wall_time, e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""

INTERVAL = {"kind": "interval", "epoch": 1, "learning_rate": 0.01}
LINES = [
    {**INTERVAL, "step": 50, "loss": 2.25, "accuracy": 0.25, "images_per_second": 800.0},
    {**INTERVAL, "step": 100, "loss": 2.1, "accuracy": 0.3, "images_per_second": 810.0},
    {
        "kind": "epoch",
        "epoch": 1,
        "step": 100,
        "train_loss": 2.175,
        "train_accuracy": 0.275,
        "test_loss": 2.0,
        "test_accuracy": 0.4,
        "test_top5_accuracy": 0.8,
        "validation_loss": 1.9,
        "validation_accuracy": None,
        "learning_rate": 0.01,
        "seconds": 3.0,
        "images_per_second": 805.0,
    },
    {"kind": "of a later version", "step": 120, "loss": 9.0},
    {**INTERVAL, "step": 150, "loss": 1.75, "accuracy": 0.5, "images_per_second": 790.0},
]
CURVES = {
    "train/loss": [[0.0, 50, 2.25], [0.0, 100, 2.1], [0.0, 150, 1.75]],
    "train/accuracy": [[0.0, 50, 0.25], [0.0, 100, 0.3], [0.0, 150, 0.5]],
    "train/learning_rate": [[0.0, 50, 0.01], [0.0, 100, 0.01], [0.0, 150, 0.01]],
    "throughput/images_per_second": [[0.0, 50, 800.0], [0.0, 100, 810.0], [0.0, 150, 790.0]],
    "train/epoch_loss": [[0.0, 100, 2.175]],
    "train/epoch_accuracy": [[0.0, 100, 0.275]],
    "test/loss": [[0.0, 100, 2.0]],
    "test/accuracy": [[0.0, 100, 0.4]],
    "test/top5_accuracy": [[0.0, 100, 0.8]],
    "validation/loss": [[0.0, 100, 1.9]],
}


def python(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(folder: Path) -> dict[str, list[list[float]]]:
    return json.loads(python(READ, str(folder)))


def assert_same(found: dict[str, list[list[float]]], expected: dict[str, list[list[float]]]) -> None:
    """Values are float32 in the file; wall times and steps are exact."""
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert [point[:2] for point in found[tag]] == [point[:2] for point in points], tag
        assert [point[2] for point in found[tag]] == pytest.approx([point[2] for point in points], rel=1e-7), tag


def test_tensorboard_reads_back_every_value_and_no_framework_was_imported(tmp_path):
    path, modules = json.loads(python(WRITE, str(tmp_path / "tensorboard"), json.dumps(LINES)))
    assert Path(path).parent == tmp_path / "tensorboard"
    assert "tensorboard" in modules
    assert not {"tensorflow", "torch", "keras"} & set(modules)
    assert_same(read(tmp_path / "tensorboard"), CURVES)


def test_a_file_that_grows_is_read_at_any_moment_with_the_times_of_the_lines(tmp_path):
    timed = [{**line, "time": 1000.0 + number} for number, line in enumerate(LINES)]
    events = GrowingEvents(tmp_path / ".tmp-0001-abcdef.tfevents")
    events.update([])
    assert not events.path.exists()
    events.update(timed[:1])
    assert read(tmp_path)["train/loss"] == [[1000.0, 50, 2.25]]
    events.update(timed)
    found = read(tmp_path)
    assert [(time, step) for time, step, _ in found["train/loss"]] == [(1000.0, 50), (1001.0, 100), (1004.0, 150)]
    assert found["test/accuracy"][0][:2] == [1002.0, 100]
    assert found.keys() == CURVES.keys()


def test_without_interval_lines_the_epochs_fill_the_training_curves(tmp_path):
    epoch = {key: value for key, value in LINES[2].items() if not key.startswith("validation")}
    write_events(tmp_path, [epoch, {**epoch, "epoch": 2, "step": 200, "train_loss": 1.5}])
    found = read(tmp_path)
    assert_same({"train/loss": found["train/loss"]}, {"train/loss": [[0.0, 100, 2.175], [0.0, 200, 1.5]]})
    assert found["train/loss"] == found["train/epoch_loss"]
    assert found["throughput/images_per_second"] == [[0.0, 100, 805.0], [0.0, 200, 805.0]]
    assert not any(tag.startswith("validation/") for tag in found)


def test_the_same_lines_give_the_same_single_file(tmp_path):
    first = write_events(tmp_path, LINES).read_bytes()
    assert write_events(tmp_path, LINES).read_bytes() == first
    assert write_events(tmp_path / "other", LINES[:-1]).read_bytes() != first
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["events.out.tfevents.0.alexnet"]


def test_a_run_without_lines_gives_a_file_without_scalars(tmp_path):
    write_events(tmp_path, [])
    assert read(tmp_path) == {}


def test_samples_of_the_machine_are_scalars_too(tmp_path):
    samples = [(1000.5, 7, {"machine/process_cpu_cores": 1.5}), (1001.5, 9, {"machine/process_cpu_cores": 2.5, "gpu0/power_watts": 300.0})]
    write_events(tmp_path, LINES, samples)
    read = json.loads(subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True).stdout)
    assert read["machine/process_cpu_cores"] == [[1000.5, 7, 1.5], [1001.5, 9, 2.5]]
    assert read["gpu0/power_watts"] == [[1001.5, 9, 300.0]]
    assert "train/loss" in read
