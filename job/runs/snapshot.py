"""A run as far as it has come, at work, stopped or done: what `alexnet watch` and the page of an unfinished run show."""

from contextlib import suppress
from dataclasses import dataclass

from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.records import End, EpochLine, MetricsLine, RunRecord, Status, Summary
from job.core.throughput import seconds_left
from job.runs.checkpoint import CheckpointName
from job.runs.listing import row_of
from job.runs.reading import LINES_BYTES, sound_lines
from job.runs.results import final_object
from job.runs.run import ATTEMPT, Run
from job.storage.errors import NotFound
from job.storage.files import sha256_of


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run has told until now."""

    id: str
    url: str
    record: RunRecord
    state: str
    """as `alexnet runs` says it: running, interrupted, failed, finished"""
    reason: str | None
    """why it ended, where that is known"""
    advice: str
    """what there is to do, in one sentence; "" where there is nothing"""
    age: float | None
    """seconds since the last sign of life, by the store's clock; None of a finished run"""
    status: Status | None
    """the newest attempt's, or its end; None before the first"""
    summary: Summary | None
    lines: list[MetricsLine]
    """up to the newest checkpoint"""

    @property
    def epoch_lines(self) -> list[EpochLine]:
        return [line for line in self.lines if line["kind"] == "epoch"]

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return max(len(self.epoch_lines), self.status["epoch"] if self.status else 0)

    @property
    def epochs(self) -> int:
        """Epochs that the run shall have."""
        return int(self.record["recipe"]["epochs"])

    @property
    def step(self) -> int:
        """Steps that are done.  The status is written every 30 s; a checkpoint may be newer."""
        return max(self.lines[-1]["step"] if self.lines else 0, self.status["step"] if self.status else 0)

    @property
    def steps(self) -> int | None:
        """Steps that the run shall have; None where nobody has said."""
        if self.status is not None:
            return self.status["steps"]
        return None if self.summary is None else self.summary["steps"]

    @property
    def latest(self) -> tuple[float, float] | None:
        """(loss, images/s) of the newest logging interval."""
        interval = next((line for line in reversed(self.lines) if line["kind"] == "interval"), None)
        status = self.status
        if status is not None and (interval is None or status["step"] > interval["step"]):
            loss, speed = status.get("loss"), status["images_per_second"]
            return None if loss is None or speed is None else (loss, speed)
        return None if interval is None else (interval["loss"], interval["images_per_second"])

    @property
    def seconds_left(self) -> float | None:
        """Of a run that is at work."""
        if self.state != "running" or self.steps is None:
            return None
        if self.epoch_lines:
            with suppress(ValueError):  # the recipe of a newer version
                return seconds_left(Recipe().with_values(self.record["recipe"]), self.epoch_lines[-1], self.step, self.steps)
        return self.status.get("seconds_left") if self.status is not None else None


class Observer:
    """Looks at a run again and again.  Metrics are fetched only when there is a newer checkpoint."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lines: list[MetricsLine] = []
        self._checkpoint: CheckpointName | None = None
        """of which these are"""

    def snapshot(self) -> Snapshot:
        """Raises JobError: 2 where the run is gone, 65 where it is damaged, and StoreError."""
        run = self.run
        record, summary, row = run.record(), run.summary(), row_of(run.store, run.id)
        if record is None or row is None:
            raise JobError(Exit.USAGE, f"{run.url}: there is no run (no run.json).")
        newest = max(filter(ATTEMPT.fullmatch, run.store.folders(run.key("attempts") + "/")), default="")
        end = run.read_sound(End, "attempts", newest, "end.json") if newest else None
        status: Status | None = end or (run.read_sound(Status, "attempts", newest, "status.json") if newest else None)
        return Snapshot(
            id=run.id,
            url=run.url,
            record=record,
            state=row.state,
            reason=row.reason,
            advice=row.advice,
            age=row.age,
            status=status,
            summary=summary,
            lines=self._read_final(summary) if summary is not None else self._read_newest(),
        )

    def _read_final(self, summary: Summary) -> list[MetricsLine]:
        return sound_lines(MetricsLine, final_object(self.run, summary, "metrics.jsonl"))

    def _read_newest(self) -> list[MetricsLine]:
        """Of the newest checkpoint that is whole; an older one may be cleared away, or the newest be on its way."""
        for name in self.run.checkpoint_names():
            if name == self._checkpoint:
                break
            try:
                manifest = self.run.manifest("checkpoints", str(name))
                data = self.run.store.get(self.run.key("checkpoints", str(name), "metrics.jsonl"), LINES_BYTES)
            except (NotFound, JobError):
                continue
            if manifest is None or (entry := manifest.files.get("metrics.jsonl")) is None or entry.sha256 != sha256_of(data):
                continue
            self._lines, self._checkpoint = sound_lines(MetricsLine, data), name
            break
        return self._lines
