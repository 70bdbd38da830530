"""Samples of what the run uses, one line of JSON each second, in segments that are bounded so that a killed pod loses little.

Rates and CPU shares are differences over the measured interval, which each row states.  Units are in the names; what is not known is left
out, never zero.  GPUs: `job.io.gpu`; the container: `job.io.cgroup`; the host and this process: psutil.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from job.io.cgroup import Cgroup
from job.io.gpu import GpuWatch

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
        self._gpu = GpuWatch(say, nvml, interval)
        self._probe = Probe(cgroup or Cgroup())
        self._rows: list[str] = []
        self.rows: list[dict[str, Any]] = []
        """of this attempt, for its figures"""
        self._segments = 0
        self.peaks = Peaks()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """Deliver the last segment; returns facts for the summary."""
        if not self._closing.is_set():
            self._closing.set()
            self._gpu.close()
            self._thread.join(5)
            self._flush()
        return {**self.peaks.facts, "container": vars(self._probe.limits), "gpus": self._gpu.facts.get("devices", [])}

    @property
    def facts(self) -> dict[str, Any]:
        """For the claim: driver and devices, as far as known by now, and the container's limits."""
        return {**self._gpu.facts, "container": vars(self._probe.limits)}

    def _work(self) -> None:
        due = time.monotonic()
        while not self._closing.is_set():
            due = max(due + self._interval, time.monotonic())
            if self._closing.wait(due - time.monotonic()):
                return
            try:
                row = {**self._probe.sample(), **self._gauges(), "gpus": self._gpu.latest()}
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
            path.unlink(missing_ok=True)


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
    """What is worth telling of all rows of an attempt."""

    def __init__(self) -> None:
        self._most: dict[str, float] = {}
        self._energy: dict[int, tuple[float, float]] = {}
        self._whole_cards = True

    def add(self, row: Mapping[str, Any]) -> None:
        for name in ("process_memory_bytes", "container_memory_bytes"):
            if row.get(name) is not None:
                self._most[name] = max(self._most.get(name, 0), row[name])
        for gpu in row["gpus"]:
            self._most["gpu_memory_bytes"] = max(self._most.get("gpu_memory_bytes", 0), gpu.get("memory_used_bytes", 0))
            self._whole_cards &= not gpu.get("mig")
            if "energy_joules" in gpu:
                first, _ = self._energy.get(gpu["gpu"], (gpu["energy_joules"], 0.0))
                self._energy[gpu["gpu"]] = first, gpu["energy_joules"]

    @property
    def energy_joules(self) -> float | None:
        """Of all cards since the first row; None where no counter exists, or a slice shares its card with others."""
        return sum(last - first for first, last in self._energy.values()) if self._energy and self._whole_cards else None

    @property
    def facts(self) -> dict[str, Any]:
        peaks: dict[str, Any] = {f"peak_{name}": value for name, value in self._most.items()}
        return peaks | ({"energy_joules": self.energy_joules} if self.energy_joules is not None else {})
