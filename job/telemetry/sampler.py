"""The resource log of an attempt: one line of JSON each second, in segments that are bounded so that a killed pod loses little.

GPUs: `job.telemetry.gpu`; the container, the host, this process: `job.telemetry.host`.  An error here never reaches the training.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from job.core.resource_records import ContainerLimits, GpuRows, ResourceFacts, ResourceRow, ResourceTotals, TrainingGauges
from job.core.thinning import ThinnedRows
from job.telemetry.cgroup import Cgroup
from job.telemetry.gpu import Gpus
from job.telemetry.host import Probe

SEGMENT_ROWS, SEGMENT_SECONDS = 30, 25.0
"""A segment ends after so many rows or seconds, whichever is first: with 5 s for an upload, a killed pod loses at most 30 s of samples"""

UNITS = ("_bytes", "_cores", "_per_second", "_percent", "_watts", "_celsius", "_mhz", "_joules")
"""how the names of figures end that TensorBoard gets"""

Peak = Literal["peak_process_memory_bytes", "peak_container_memory_bytes", "peak_gpu_memory_bytes"]
Mean = Literal["mean_process_cpu_cores", "mean_container_cpu_cores", "mean_gpu_utilization_percent", "mean_gpu_power_watts"]
Sum = Literal["container_throttled_seconds"]
"""of job.core.resource_records.ResourceTotals"""


class Sampler:
    """Samples on a daemon thread, every `interval` seconds.  `gauges` returns fields that the training adds to each row; `deliver` gets the
    file of each finished segment and must not block.  `only`: positions, among the visible GPUs, of those that the process uses."""

    def __init__(
        self,
        folder: Path,
        *,
        deliver: Callable[[Path], None],
        say: Callable[[str], None],
        gauges: Callable[[], TrainingGauges] = TrainingGauges,
        nvml: Any = None,
        only: Sequence[int] | None = None,
        cgroup: Cgroup | None = None,
        interval: float = 1.0,
    ) -> None:
        self._folder, self._deliver, self._say, self._gauges, self._interval = folder, deliver, say, gauges, interval
        self._gpu = Gpus(say=say, nvml=nvml, only=only, interval=interval)
        self._probe = Probe(cgroup or Cgroup())
        self._segment: list[str] = []
        self._segments, self._segment_begun = 0, 0.0
        self._rows = ThinnedRows[ResourceRow]()
        self._totals = Totals()
        self._seconds = 0.0
        """CPU time of this thread"""
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)

    @property
    def rows(self) -> list[ResourceRow]:
        """Of this attempt, thinned."""
        with self._lock:
            return [*self._rows]

    @property
    def energy_joules(self) -> float | None:
        """Energy of all GPUs in use since the start; None where a counter is missing."""
        return self._gpu.energy_joules()

    def start(self) -> None:
        """Report the limits of the container, and begin to sample."""
        self._say(self._probe.describe())
        self._gpu.start()
        self._thread.start()

    def stop(self) -> ResourceFacts:
        """Deliver the last segment.  Returns facts for the summary: peaks, means, totals, energy, devices and the container's limits."""
        if self._thread.ident is not None and not self._closing.is_set():
            self._closing.set()
            self._gpu.stop()
            self._thread.join(5)
            if not self._thread.is_alive() and (self._probe.age > self._interval / 2 or not self._totals.seconds):
                self._try_to_sample()  # so that a run of less than a second has a row, too
            self._flush()
        totals, limits, energy = self._totals.facts(), self._probe.limits, self.energy_joules
        if energy is not None:
            totals["energy_joules"] = round(energy, 1)
        if self._totals.seconds:
            totals["sampler_cpu_share"] = round(self._seconds / self._totals.seconds, 5)
        container: ContainerLimits = {"cpus": limits.cpus, "memory_bytes": limits.memory_bytes, "version": limits.version}
        return {**totals, "container": container, "gpus": self._gpu.facts()}

    def _work(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + self._interval, time.monotonic())
            if self._closing.wait(due - time.monotonic()):
                return
            self._try_to_sample()
            self._seconds = time.thread_time()

    def _try_to_sample(self) -> None:
        """A figure that cannot be read must not end the run, nor fill its log."""
        try:
            self._sample()
        except Exception as error:
            self._report_once(f"resource log: {type(error).__name__}: {error}; it goes on")

    def _sample(self) -> None:
        machine, gauges, gpus = self._probe.sample(), TrainingGauges(), GpuRows()
        try:
            gauges = self._gauges()
        except Exception as error:
            self._report_once(f"resource log without figures of the training: {type(error).__name__}: {error}")
        if rows := self._gpu.rows():
            gpus["gpus"] = rows
        row: ResourceRow = {**machine, **gauges, **gpus}
        self._totals.add(row)
        with self._lock:
            self._rows.add(row)
        if not self._segment:
            self._segment_begun = time.monotonic()
        self._segment.append(json.dumps(row))
        full = len(self._segment) >= SEGMENT_ROWS or time.monotonic() - self._segment_begun + self._interval >= SEGMENT_SECONDS
        if full:
            self._flush()

    def _flush(self) -> None:
        """Write the segment and deliver it.  If the disk is full, the rows are lost; the run itself reports the full disk."""
        lines, self._segment = self._segment, []
        if not lines:
            return
        self._segments += 1
        path = self._folder / f"resources-{self._segments:04d}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in lines))
            self._deliver(path)
        except Exception as error:
            self._report_once(f"resource log: {path.name} was not stored ({error})")
            with suppress(OSError):
                path.unlink()

    def _report_once(self, line: str) -> None:
        """Report the first line of each kind, the part before its colon."""
        kind = line.partition(":")[0]
        if kind not in self._reported:
            self._reported.add(kind)
            with suppress(Exception):
                self._say(line)


class Totals:
    """Peaks, and means weighted by time, over all rows."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._peaks: dict[Peak, int] = {}
        self._sums: dict[Mean | Sum, float] = {}
        self._weights: dict[Mean | Sum, float] = {}
        self._kills = 0

    def add(self, row: ResourceRow) -> None:
        seconds = row["interval_seconds"]
        self.seconds += seconds
        self._peak("peak_process_memory_bytes", row.get("process_memory_bytes"))
        self._peak("peak_container_memory_bytes", row.get("container_memory_bytes"))
        self._add("mean_process_cpu_cores", row.get("process_cpu_cores"), seconds)
        self._add("mean_container_cpu_cores", row.get("container_cpu_cores"), seconds)
        self._add("container_throttled_seconds", row.get("container_throttled_seconds_per_second"), seconds)
        for gpu in row.get("gpus", ()):
            self._peak("peak_gpu_memory_bytes", gpu.get("memory_used_bytes"))
            self._add("mean_gpu_utilization_percent", gpu.get("utilization_percent"), seconds)
            self._add("mean_gpu_power_watts", gpu.get("power_watts"), seconds)
        self._kills = max(self._kills, row.get("container_out_of_memory_kills", 0))

    def facts(self) -> ResourceTotals:
        """For summary.json.  Means over GPUs are those of one GPU; peaks are the largest of any GPU."""
        found = ResourceTotals()
        for peak, value in self._peaks.items():
            found[peak] = value
        for name, total in self._sums.items():
            if name == "container_throttled_seconds":
                found[name] = round(total, 3)
            elif self._weights[name]:
                found[name] = round(total / self._weights[name], 4)
        if self._kills:
            found["container_out_of_memory_kills"] = self._kills
        return found

    def _peak(self, name: Peak, value: int | None) -> None:
        if value is not None:
            self._peaks[name] = max(self._peaks.get(name, value), value)

    def _add(self, name: Mean | Sum, value: float | None, seconds: float) -> None:
        if value is not None:
            self._sums[name] = self._sums.get(name, 0.0) + value * seconds
            self._weights[name] = self._weights.get(name, 0.0) + seconds


def scalars(rows: Sequence[ResourceRow]) -> Iterator[tuple[float, int, dict[str, float]]]:
    """(time, step, tag → value) of each row, for TensorBoard; missing values are left out."""
    for row in rows:
        values = {f"machine/{name}": value for name, value in _measured(row.items())}
        for gpu in row.get("gpus", ()):
            values |= {f"gpu{gpu['index']}/{name}": value for name, value in _measured(gpu.items())}
        yield row["time"], int(row.get("step", 0)), values


def _measured(fields: Iterable[tuple[str, object]]) -> Iterator[tuple[str, float]]:
    """Those that are a figure with a unit."""
    for name, value in fields:
        if name.endswith(UNITS) and isinstance(value, int | float):
            yield name, float(value)
