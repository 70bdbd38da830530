"""Samples of what the run uses, one line of JSON each second, in segments that are bounded so that a killed pod loses little.

Rates and CPU shares are differences over the measured interval, which each row states.  Units are in the names; what is not known is left
out, never zero.  GPUs: `job.io.gpu`; the container: `job.io.cgroup`; the host and this process: psutil.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from job.io.cgroup import Cgroup
from job.io.gpu import Gpus

SEGMENT_ROWS = 30
"""lines in one object: with one each second a killed pod loses at most 30 s of them"""


class Sampler:
    """A daemon thread.  `gauges` adds fields of the loop; `deliver` gets each finished segment.  Errors never leave it."""

    def __init__(
        self,
        folder: Path,
        *,
        deliver: Callable[[Path], None],
        say: Callable[[str], None],
        gauges: Callable[[], Mapping[str, Any]] = dict,
        nvml: Any = None,
        cgroup: Cgroup | None = None,
        interval: float = 1.0,
    ) -> None:
        self._folder, self._deliver, self._gauges, self._interval = folder, deliver, gauges, interval
        self._gpu = Gpus(say=say, nvml=nvml, interval=interval)
        self._probe = Probe(cgroup or Cgroup())
        self._rows: list[str] = []
        self.rows: list[dict[str, Any]] = []
        """of this attempt, for its figures"""
        self._segments = 0
        self.peaks = Peaks()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)

    def start(self) -> None:
        self._gpu.start()
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """Deliver the last segment; returns facts for the summary."""
        if not self._closing.is_set():
            self._closing.set()
            self._gpu.stop()
            self._thread.join(5)
            self._flush()
        energy = self._gpu.energy_joules()
        known = {"energy_joules": energy} if energy is not None else {}
        return {**self.peaks.facts, **known, "container": vars(self._probe.limits), "gpus": self._gpu.facts()}

    def _work(self) -> None:
        due = time.monotonic()
        while not self._closing.is_set():
            due = max(due + self._interval, time.monotonic())
            if self._closing.wait(due - time.monotonic()):
                return
            try:
                row = {**self._probe.sample(), **self._gauges(), "gpus": self._gpu.rows()}
                self.peaks.add(row)
                row = {name: value for name, value in row.items() if value not in (None, [])}
                self.rows.append(row)
                self._rows.append(json.dumps(row))
                if len(self._rows) >= SEGMENT_ROWS:
                    self._flush()
            except Exception:  # noqa: S112  a figure that cannot be read must not end the run, nor fill its log
                continue

    def _flush(self) -> None:
        if not self._rows:
            return
        rows, self._rows, self._segments = self._rows, [], self._segments + 1
        path = self._folder / f"resources-{self._segments:04d}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{row}\n" for row in rows))
            self._deliver(path)
        except OSError:  # the disk is full: the run itself will say so
            with suppress(OSError):
                path.unlink()


class Probe:
    """The container, the host and this process."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup, self._process = cgroup, psutil.Process()
        self.limits = cgroup.limits()
        self._last: dict[str, float] = {}
        self._at = 0.0
        self.sample()

    def sample(self) -> dict[str, Any]:
        now, usage = time.monotonic(), self._cgroup.usage()
        interval, self._at = now - self._at, now
        host, process, memory = psutil.cpu_times(), self._process.cpu_times(), psutil.virtual_memory()
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        busy = sum(host) - host.idle - getattr(host, "iowait", 0.0)
        counters = {
            "host_cpu_cores": busy,
            "process_cpu_cores": process.user + process.system,
            "container_cpu_cores": usage.cpu_seconds,
            "container_throttled_share": usage.throttled_seconds,
            "disk_read_bytes_per_second": float(disk.read_bytes) if disk else None,
            "disk_written_bytes_per_second": float(disk.write_bytes) if disk else None,
            "network_received_bytes_per_second": float(network.bytes_recv),
            "network_sent_bytes_per_second": float(network.bytes_sent),
        }
        rates = {
            name: round((value - self._last[name]) / interval, 4)
            for name, value in counters.items()
            if value is not None and name in self._last and interval > 0
        }
        self._last = {name: value for name, value in counters.items() if value is not None}
        return {
            "time": round(time.time(), 3),
            "interval_seconds": round(interval, 4),
            **rates,
            "process_memory_bytes": self._process.memory_info().rss,
            "container_memory_bytes": usage.memory_bytes,
            "container_memory_limit_bytes": self.limits.memory_bytes,
            "container_cpu_limit_cores": self.limits.cpus,
            "container_out_of_memory_kills": usage.out_of_memory_kills,
            "host_memory_used_bytes": memory.total - memory.available,
            "host_memory_total_bytes": memory.total,
        }


class Peaks:
    """The greatest values of an attempt."""

    def __init__(self) -> None:
        self.facts: dict[str, float] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        used = {name: row.get(name) for name in ("process_memory_bytes", "container_memory_bytes")}
        used["gpu_memory_bytes"] = max((gpu.get("memory_used_bytes", 0) for gpu in row["gpus"]), default=None)
        for name, value in used.items():
            if value is not None:
                self.facts[f"peak_{name}"] = max(self.facts.get(f"peak_{name}", 0), value)
