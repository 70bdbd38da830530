"""The run's metrics as a TensorBoard event file, written without either framework.

TensorBoard's own `EventFileWriter` and `SummaryWriter` resolve `tensorboard.compat.tf`, which imports TensorFlow wherever it is
installed and so crashes a process that holds torch.  Its protocol buffers and its `RecordWriter` (length, masked CRC-32C) do not.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

FILE_NAME = "events.out.tfevents.0.alexnet"
"""TensorBoard reads every file whose name contains `tfevents`; with no time or host in it, the same run gives the same file."""

INTERVAL_TAGS = {
    "loss": "train/loss",
    "accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "images_per_second": "throughput/images_per_second",
}
EPOCH_TAGS = {
    "train_loss": "train/epoch_loss",
    "train_accuracy": "train/epoch_accuracy",
    "test_loss": "test/loss",
    "test_accuracy": "test/accuracy",
    "validation_loss": "validation/loss",
    "validation_accuracy": "validation/accuracy",
}
EPOCH_TAGS_WITHOUT_INTERVALS = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "images_per_second": "throughput/images_per_second",
}
"""A mean over an epoch in the middle of means over intervals would be a spike, so it joins their curves only where there are none."""


Sample = tuple[float, int, Mapping[str, float]]
"""time, step, tag → value"""


def write_events(folder: Path, lines: Sequence[Mapping[str, Any]], samples: Iterable[Sample] = ()) -> Path:
    """Write the metrics `lines`, and `samples` of the machine, as one event file in `folder`, which is created, and return its path.

    Steps are the lines' own.  The wall time is a line's `time` (seconds since 1970) or 0.  Values are float32, as TensorBoard
    keeps them; absent and null ones are left out.  An older file of this name is replaced."""
    buffer = BytesIO()
    writer = RecordWriter(buffer)
    for event in (*_events(lines), *map(_sample, samples)):
        writer.write(event.SerializeToString(deterministic=True))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_bytes(buffer.getvalue())
    return path


def _events(lines: Sequence[Mapping[str, Any]]) -> Iterable[Event]:
    has_intervals = any(line["kind"] == "interval" for line in lines)
    times = [float(line.get("time", 0)) for line in lines]
    yield Event(wall_time=min(times, default=0.0), file_version="brain.Event:2")
    for line, time in zip(lines, times, strict=True):
        scalars = [(tag, line[key]) for key, tag in _tags(line["kind"], has_intervals) if line.get(key) is not None]
        if scalars:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars]
            yield Event(wall_time=time, step=line["step"], summary=Summary(value=values))


def _sample(sample: Sample) -> Event:
    time, step, scalars = sample
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(wall_time=time, step=step, summary=Summary(value=values))


def _tags(kind: str, has_intervals: bool) -> list[tuple[str, str]]:
    """(key, tag) of what a line of this kind contributes; nothing for a kind that came later than this code."""
    if kind == "interval":
        return list(INTERVAL_TAGS.items())
    if kind == "epoch":
        return [*EPOCH_TAGS.items(), *([] if has_intervals else EPOCH_TAGS_WITHOUT_INTERVALS.items())]
    return []
