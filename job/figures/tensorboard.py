"""The run's metrics as a TensorBoard event file, written without either framework.

TensorBoard's own `EventFileWriter` and `SummaryWriter` resolve `tensorboard.compat.tf`, which imports TensorFlow wherever it is
installed and so crashes a process that holds torch.  Its protocol buffers and its `RecordWriter` (length, masked CRC-32C) do not.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from job.core.records import EpochLine, IntervalLine, MetricsLine

FILE_NAME = "events.out.tfevents.0.alexnet"
"""TensorBoard reads every file whose name contains `tfevents`; with no time or host in it, the same lines give the same file."""

Rate = Literal["learning_rate", "images_per_second"]
IntervalField = Literal["loss", "accuracy", Rate]
Part = Literal["train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_top5_accuracy", "validation_loss", "validation_accuracy"]
EpochField = Literal[Part, Rate]

INTERVAL_TAGS: dict[IntervalField, str] = {
    "loss": "train/loss",
    "accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "images_per_second": "throughput/images_per_second",
}
EPOCH_TAGS: dict[EpochField, str] = {
    "train_loss": "train/epoch_loss",
    "train_accuracy": "train/epoch_accuracy",
    "test_loss": "test/loss",
    "test_accuracy": "test/accuracy",
    "test_top5_accuracy": "test/top5_accuracy",
    "validation_loss": "validation/loss",
    "validation_accuracy": "validation/accuracy",
}
EPOCH_TAGS_WITHOUT_INTERVALS: dict[EpochField, str] = {
    "train_loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "images_per_second": "throughput/images_per_second",
}
"""A mean over an epoch in the middle of means over intervals would be a spike, so it joins their curves only where there are none."""


Sample = tuple[float, int, Mapping[str, float]]
"""time, step, tag → value"""


def write_events(folder: Path, lines: Sequence[MetricsLine], samples: Iterable[Sample] = ()) -> Path:
    """Write the metrics `lines`, and `samples` of the machine, as one event file in `folder`, which is created, and return its path.

    Steps and wall times are the lines' own (0 where a line of an earlier version has no time).  Values are float32, as TensorBoard keeps
    them; absent and null ones are left out.  An older file of this name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_bytes(_records([_version(lines), *_events(lines), *map(_sample, samples)]))
    return path


class GrowingEvents:
    """An event file to which lines are appended as they come, for who looks on while a run works.  The file appears with the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        """lines that are in the file"""

    def update(self, lines: Sequence[MetricsLine]) -> None:
        """`lines`: all of the run so far; those that are new are appended.  Raises OSError."""
        fresh = lines[self._count :]
        if not fresh:
            return
        events = [*_events(fresh)]
        if not self._count:  # what TensorBoard may have seen of later steps, from an attempt that was killed, is void
            start = Event(wall_time=_time(fresh[0]), step=fresh[0]["step"], session_log=SessionLog(status=SessionLog.START))
            events = [_version(fresh), start, *events]
        with self.path.open("ab" if self._count else "wb") as file:
            file.write(_records(events))
        self._count = len(lines)


def _records(events: Iterable[Event]) -> bytes:
    buffer = BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return buffer.getvalue()


def _version(lines: Sequence[MetricsLine]) -> Event:
    """TensorBoard counts relative time from this event on."""
    return Event(wall_time=_time(lines[0]) if lines else 0.0, file_version="brain.Event:2")


def _time(line: MetricsLine) -> float:
    return line.get("time", 0.0)


def _events(lines: Sequence[MetricsLine]) -> Iterable[Event]:
    has_intervals = any(line["kind"] == "interval" for line in lines)
    for line in lines:
        if line["kind"] == "interval":
            scalars = _of_interval(line)
        elif line["kind"] == "epoch":
            scalars = _of_epoch(line, EPOCH_TAGS) + ([] if has_intervals else _of_epoch(line, EPOCH_TAGS_WITHOUT_INTERVALS))
        else:  # a kind that came later than this code
            continue
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars]
        yield Event(wall_time=_time(line), step=line["step"], summary=Summary(value=values))


def _of_interval(line: IntervalLine) -> list[tuple[str, float]]:
    return [(tag, value) for field, tag in INTERVAL_TAGS.items() if (value := line.get(field)) is not None]


def _of_epoch(line: EpochLine, tags: Mapping[EpochField, str]) -> list[tuple[str, float]]:
    return [(tag, value) for field, tag in tags.items() if (value := line.get(field)) is not None]


def _sample(sample: Sample) -> Event:
    time, step, scalars = sample
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(wall_time=time, step=step, summary=Summary(value=values))
