"""The machine that is measured, and whether it was left alone meanwhile."""

import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Self, TypedDict

import psutil

from job.telemetry.cgroup import usable_cpus
from job.telemetry.gpu import NoDriver, devices

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16")
"""of /proc/cpuinfo, which tell what products of matrices a CPU has in hardware"""
OTHERS_ALLOWED = {"cpu": 0.05, "gpu": 0.5}
"""share of the CPUs that others may use while a CPU, or a GPU, is measured"""


class Machine(TypedDict):
    """What was measured on."""

    cpu: str
    cpus: int
    """that this process may use"""
    cpu_flags: list[str]
    memory_bytes: int
    gpus: list[str]
    load: float
    """over the minute before"""


def describe() -> Machine:
    """Of the machine, as it is now."""
    info = _cpu_info()
    flags = {*info.get("flags", info.get("Features", "")).split()}
    return {
        "cpu": info.get("model name", platform.machine()),
        "cpus": usable_cpus(),
        "cpu_flags": [flag for flag in FLAGS if flag in flags],
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu_info() -> dict[str, str]:
    """Of the first CPU."""
    found: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        found[key.strip()] = value.strip()
    return found


def _gpus() -> list[str]:
    try:
        return [survey["name"] for survey in devices()]
    except NoDriver:
        return []


class Neighbours:
    """What others use of the machine's CPUs, between entering and leaving: all time that a CPU was busy or taken away by the hypervisor,
    without that of this process and its descendants."""

    def __init__(self) -> None:
        self.share = 0.0
        """of the CPUs, 0 to 1"""
        self._begun, self._others = 0.0, 0.0

    def __enter__(self) -> Self:
        self._begun, self._others = time.monotonic(), _busy() - _own()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._begun
        self.share = max(_busy() - _own() - self._others, 0.0) / max(seconds * (psutil.cpu_count() or 1), 1e-9)


def objection(share: float, *, gpu: bool) -> str | None:
    """Why figures that were taken while others used this share of the CPUs must not be set against each other; None: they may."""
    allowed = OTHERS_ALLOWED["gpu" if gpu else "cpu"]
    if share <= allowed:
        return None
    return f"others used {share:.0%} of the CPUs meanwhile ({allowed:.0%} allowed): no ratios. Repeat it when the machine is quiet."


def _busy() -> float:
    """Seconds that all CPUs were busy, or stolen, since the machine started."""
    times = psutil.cpu_times()
    counted = ("user", "nice", "system", "irq", "softirq", "steal")  # user has guest in it
    return sum(getattr(times, name, 0.0) for name in counted)


def _own() -> float:
    """CPU seconds of this process and of all its descendants, the ended ones included that were waited for."""
    own, found = psutil.Process(), 0.0
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile: its parent has its time
            times = process.cpu_times()
            found += times.user + times.system + times.children_user + times.children_system
    return found
