"""Samples of the GPUs: a thread of its own asks NVML once a second, and no other thread waits for it.

A call about a card that fell off its bus may never return, so the thread is never joined; its last rows stay until they count as stale.
"""

import importlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NotRequired, TypedDict

from job.core.resource_records import GpuFacts, GpuRow
from job.telemetry.nvml import Device, visible_devices

PCIE_SECONDS = 10.0
"""between two reads of the PCIe counters, since each takes 20 ms"""
TIMEOUT = 5.0
"""seconds after which a missing answer is reported"""


class NoDriver(Exception):  # noqa: N818  an answer rather than an error
    """There is no NVIDIA driver, it does not answer, or it shows no device."""


class Survey(TypedDict):
    """What is seen of one visible device where nothing runs on it."""

    driver: str
    """its version"""
    cuda: str
    """the newest version that the driver knows"""
    name: str
    uuid: str
    """empty: the driver does not say"""
    mig: bool
    memory_total_bytes: NotRequired[int]


class Gpus:
    """The devices that CUDA shows this process.  `nvml`: a module like nvidia-ml-py's pynvml, which is imported when none is given.
    `only`: positions, among the visible devices, of those that the process uses."""

    def __init__(
        self,
        *,
        say: Callable[[str], None],
        nvml: Any = None,
        environment: Mapping[str, str] = os.environ,
        only: Sequence[int] | None = None,
        interval: float = 1.0,
        pcie_seconds: float = PCIE_SECONDS,
        timeout: float = TIMEOUT,
    ) -> None:
        self._say, self._nvml, self._only = say, nvml, only
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._interval, self._pcie_seconds, self._timeout = interval, pcie_seconds, timeout
        self._closing = threading.Event()
        self._devices: list[Device] = []
        self._rows: list[GpuRow] = []
        self._asked = 0.0
        """time.monotonic() of the question that NVML has not answered yet; 0: there is none"""
        self._silent = False

    def start(self) -> None:
        threading.Thread(target=self._work, name="gpu", daemon=True).start()

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._closing.set()

    def rows(self) -> list[GpuRow]:
        """The last row of each device; empty without devices, and while NVML does not answer."""
        asked = self._asked
        silent = bool(asked) and time.monotonic() - asked > self._timeout
        if silent and not self._silent:
            self._say(
                f"GPU: no answer from the driver for {self._timeout:g} s, as after a fault of a card; its log pauses, training goes on"
            )
        if self._silent and not silent:
            self._say("GPU: the driver answers again")
        self._silent = silent
        return [] if silent else self._rows

    def facts(self) -> list[GpuFacts]:
        """For each device: index, name, uuid, mig, lost, and energy_joules since the start where there is a counter."""
        return [device.facts() for device in self._devices]

    def energy_joules(self) -> float | None:
        """Of all devices since the start; None unless each has a counter of its own, and none was lost."""
        joules = [None if device.lost else device.joules for device in self._devices]
        return sum(j for j in joules if j is not None) if joules and None not in joules else None

    def _work(self) -> None:
        try:
            self._asked = time.monotonic()
            found = list(visible_devices(_initialised(self._nvml), self._visible))
            self._devices = found if self._only is None else [found[i] for i in self._only if i < len(found)]
        except Exception as error:  # no driver, no library, too old a library: the CPU rows go on
            self._say(f"GPU: nothing to measure ({_message(error)}); the resource log holds CPU, memory and I/O")
            return
        finally:
            self._asked = 0.0
        pcie_due = time.monotonic()
        while not self._closing.is_set():
            self._asked = now = time.monotonic()
            with_pcie = now >= pcie_due
            if with_pcie:
                pcie_due = now + self._pcie_seconds
            self._rows = [row for device in self._devices if (row := self._read(device, with_pcie)) is not None]
            self._asked = 0.0
            self._closing.wait(max(self._interval - (time.monotonic() - now), 0.01))

    def _read(self, device: Device, with_pcie: bool) -> GpuRow | None:
        if device.lost:
            return None
        try:
            return device.read(with_pcie)
        except Exception as error:
            device.lost = True  # and is not asked again: the next call may hang
            self._say(f"GPU {device.index} ({device.name}) is lost: {_message(error)}. Its log ends here; another node may do")
            return None


def opened(nvml: Any = None, environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The visible devices, to be asked.  A driver that hangs keeps the caller.  Empty where there is no driver, or none is visible."""
    try:
        return [*visible_devices(_initialised(nvml), environment.get("CUDA_VISIBLE_DEVICES"))]
    except Exception:  # no driver, no library, too old a library
        return []


def devices(nvml: Any = None, environment: Mapping[str, str] = os.environ, timeout: float = TIMEOUT) -> list[Survey]:
    """For each visible device: driver (its version), cuda (the newest that it supports), and the fields of `Device.facts` and `read`.

    Raises NoDriver where no device is visible, also when the driver does not answer within `timeout` seconds."""
    answers: SimpleQueue[list[Survey] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_survey(_initialised(nvml), environment.get("CUDA_VISIBLE_DEVICES")))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="gpu-survey", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise NoDriver(f"the driver does not answer within {timeout:g} s") from None
    if isinstance(answer, Exception):
        raise NoDriver(_message(answer)) from answer
    return answer


def _survey(nvml: Any, visible: str | None) -> list[Survey]:
    version = int(nvml.nvmlSystemGetCudaDriverVersion())
    driver, cuda = str(nvml.nvmlSystemGetDriverVersion()), f"{version // 1000}.{version % 1000 // 10}"
    found: list[Survey] = []
    for device in visible_devices(nvml, visible):
        seen: Survey = {"driver": driver, "cuda": cuda, "name": device.name, "uuid": device.uuid, "mig": device.mig}
        if (row := device.read(False)).get("memory_total_bytes") is not None:
            seen["memory_total_bytes"] = row["memory_total_bytes"]
        found.append(seen)
    if not found:
        raise NoDriver("no device is visible" if visible is None else f"no device is visible with CUDA_VISIBLE_DEVICES={visible!r}")
    return found


def _initialised(nvml: Any) -> Any:
    module = nvml or importlib.import_module("pynvml")
    module.nvmlInit()
    return module


def _message(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) < 200 else f"{text[:200]}…"
