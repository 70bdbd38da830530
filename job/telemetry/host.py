"""One sample of the container, the host and this process.

Rates are differences over the measured interval.  Units are in the names; what is not known is left out, never zero.
"""

import resource
import time
from collections.abc import Callable
from typing import Literal

import psutil

from job.core.resource_records import MachineFigures, MachineRow
from job.telemetry.cgroup import Cgroup

Counter = Literal[
    "container_cpu_cores",
    "container_throttled_seconds_per_second",
    "host_cpu_cores",
    "process_cpu_cores",
    "disk_read_bytes_per_second",
    "disk_written_bytes_per_second",
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
]
"""of a row: the rate of something that is counted"""
Counters = dict[Counter, float | None]


class Probe:
    """Call `sample` at intervals.  The constructor takes the first sample, from which the first rates are computed."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup, self._process = cgroup, psutil.Process()
        self.limits = cgroup.limits()
        self.cores, self.memory_bytes = psutil.cpu_count() or 1, psutil.virtual_memory().total
        """the host's"""
        self._counters: dict[Counter, float] = {}
        self._at = time.monotonic()
        self._kills: int | None = None
        self.sample()

    def sample(self) -> MachineRow:
        """One row; its rates are those since the last call."""
        now = time.monotonic()
        interval, self._at = now - self._at, now
        taken, counters, figures = time.time(), dict[Counter, float](), MachineFigures()
        for source in (self._of_container, self._of_host, self._of_process, self._of_disk, self._of_network):
            counters |= _tried(source, figures)
        for name, value in counters.items():
            if name in self._counters and interval > 0:
                figures[name] = round((value - self._counters[name]) / interval, 4)
        self._counters = counters
        return {"time": round(taken, 3), "interval_seconds": round(interval, 4), **figures}

    @property
    def age(self) -> float:
        """Seconds since the last sample."""
        return time.monotonic() - self._at

    def describe(self) -> str:
        """The CPUs and the memory that the run may use, as a line for the log."""
        host = f"{self.cores} CPUs and {self.memory_bytes / 1e9:.1f} GB of memory"
        limits = self.limits
        cpus = None if limits.cpus is None else f"{limits.cpus:g} CPUs"
        memory = None if limits.memory_bytes is None else f"{limits.memory_bytes / 1e9:.2f} GB of memory"
        limited = " and ".join(part for part in (cpus, memory) if part)
        if not limited:
            return f"machine: {host}; no limits of a container are visible (cgroups: {limits.version})"
        return f"machine: the container may use {limited} (cgroups: {limits.version}); the node has {host}"

    def _of_container(self, figures: MachineFigures) -> Counters:
        usage, self.limits = self._cgroup.usage(), self._cgroup.limits()  # which Kubernetes may change in a pod that runs
        self._kills = usage.out_of_memory_kills if self._kills is None else self._kills
        if usage.memory_bytes is not None:
            figures["container_memory_bytes"] = usage.memory_bytes
        if self.limits.memory_bytes is not None:
            figures["container_memory_limit_bytes"] = self.limits.memory_bytes
        if self.limits.cpus is not None:
            figures["container_cpu_limit_cores"] = self.limits.cpus
        if usage.out_of_memory_kills is not None and self._kills is not None:
            figures["container_out_of_memory_kills"] = usage.out_of_memory_kills - self._kills  # since this attempt began
        return {"container_cpu_cores": usage.cpu_seconds, "container_throttled_seconds_per_second": usage.throttled_seconds}

    def _of_host(self, figures: MachineFigures) -> Counters:
        memory, cpu = psutil.virtual_memory(), psutil.cpu_times()
        figures["host_memory_used_bytes"], figures["host_memory_total_bytes"] = memory.total - memory.available, memory.total
        interrupts = getattr(cpu, "irq", 0.0) + getattr(cpu, "softirq", 0.0)
        return {"host_cpu_cores": cpu.user + getattr(cpu, "nice", 0.0) + cpu.system + interrupts}

    def _of_process(self, figures: MachineFigures) -> Counters:
        figures["process_memory_bytes"] = self._process.memory_info().rss
        figures["process_seconds"] = round(time.time() - self._process.create_time(), 3)  # its age
        cpu = self._process.cpu_times()
        return {"process_cpu_cores": cpu.user + cpu.system}

    def _of_disk(self, _: MachineFigures) -> Counters:
        """Of this process: the counters of the disks include all other containers."""
        disk = self._process.io_counters()
        return {"disk_read_bytes_per_second": disk.read_bytes, "disk_written_bytes_per_second": disk.write_bytes}

    def _of_network(self, _: MachineFigures) -> Counters:
        """Of the container, without loopback."""
        nics = [nic for name, nic in psutil.net_io_counters(pernic=True).items() if name != "lo"]
        return {
            "network_received_bytes_per_second": sum(nic.bytes_recv for nic in nics),
            "network_sent_bytes_per_second": sum(nic.bytes_sent for nic in nics),
        }


def _tried(source: Callable[[MachineFigures], Counters], figures: MachineFigures) -> dict[Counter, float]:
    """Read one source: its gauges go into `row`, its counters are returned.  A source that fails is left out of the row."""
    gauges = MachineFigures()
    try:
        counters = source(gauges)
    except (OSError, psutil.Error, AttributeError, NotImplementedError, ValueError):
        return {}
    figures.update(gauges)
    return {name: value for name, value in counters.items() if value is not None}


def peak_memory() -> int:
    """Peak resident set size of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
