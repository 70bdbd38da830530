"""What the GPUs do, as NVML tells it: a thread of its own asks once a second, and nobody ever waits for it.

A call about a card that fell off its bus may never come back, so the thread is never joined, and what it said last grows stale instead.
What a device does not have is missing from its rows, never zero.  Sources: NVML API reference; CUDA programming guide, "CUDA environment
variables"; MIG user guide, "Device names" and "CUDA visibility".
"""

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

PCIE_SECONDS = 10.0
"""between two reads of the PCIe counters, since each takes 20 ms"""
PATIENCE = 5.0
"""seconds after which an answer that does not come is reported"""

THROTTLE_REASONS = {
    0x2: "application_clocks",
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
    0x100: "display_clocks",
}
"""NVML's bits (nvmlClocksThrottleReason…) but for 0x1, idle"""


class Gpus:
    """The devices that CUDA shows this process.  `nvml`: a module like nvidia-ml-py's pynvml, which is imported when none is given.
    `only`: positions, among the visible devices, of those that the process uses."""

    def __init__(
        self,
        *,
        say: Callable[[str], None],
        nvml: Any = None,
        visible: str | None = os.environ.get("CUDA_VISIBLE_DEVICES"),
        only: Sequence[int] | None = None,
        interval: float = 1.0,
        pcie_seconds: float = PCIE_SECONDS,
        patience: float = PATIENCE,
    ) -> None:
        self._say, self._nvml, self._visible, self._only = say, nvml, visible, only
        self._interval, self._pcie_seconds, self._patience = interval, pcie_seconds, patience
        self._closing = threading.Event()
        self._devices: list[_Device] = []
        self._rows: list[dict[str, Any]] = []
        self._asked = 0.0
        """time.monotonic() of the question that is not answered yet; 0: none is"""
        self._silent = False

    def start(self) -> None:
        threading.Thread(target=self._work, name="gpu", daemon=True).start()

    def stop(self) -> None:
        """Asks the thread to end, and does not wait for it."""
        self._closing.set()

    def rows(self) -> list[dict[str, Any]]:
        """What was last heard of each device; empty without devices, and while NVML does not answer."""
        asked = self._asked
        silent = bool(asked) and time.monotonic() - asked > max(self._patience, 3 * self._interval)
        if silent and not self._silent:
            self._say(
                f"GPU: no answer from the driver for {self._patience:.0f} s, as after a fault of a card; its log pauses, training goes on"
            )
        if self._silent and not silent:
            self._say("GPU: the driver answers again")
        self._silent = silent
        return [] if silent else self._rows

    def facts(self) -> list[dict[str, Any]]:
        """Of each device: index, name, uuid, mig, lost, and energy_joules since the start where there is a counter."""
        return [device.facts() for device in self._devices]

    def energy_joules(self) -> float | None:
        """Of all devices since the start; None unless each has a counter of its own."""
        joules = [device.joules for device in self._devices]
        return sum(j for j in joules if j is not None) if joules and None not in joules else None

    def _work(self) -> None:
        try:
            nvml = self._nvml or importlib.import_module("pynvml")
            self._asked = time.monotonic()
            nvml.nvmlInit()
            found = list(_visible_devices(nvml, self._visible))
            self._devices = found if self._only is None else [found[i] for i in self._only if i < len(found)]
        except Exception as error:  # no driver, no library, too old a library: the CPU rows go on
            self._say(f"GPU: nothing to measure ({_said(error)}); the resource log holds CPU, memory and I/O")
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

    def _read(self, device: "_Device", with_pcie: bool) -> dict[str, Any] | None:
        if device.lost:
            return None
        try:
            return device.read(with_pcie)
        except Exception as error:
            device.lost = True  # not asked again: the next question may hang
            self._say(f"GPU {device.index} ({device.name}) is lost: {_said(error)}. Its log ends here; another node may do")
            return None


class _Device:
    """A GPU or a MIG instance, and the readings that it has not yet refused."""

    def __init__(self, nvml: Any, handle: Any, index: int, card: Any = None) -> None:
        """`card`: of a MIG instance, the whole card, which alone has temperature and clocks.  Its utilisation, power, energy and PCIe
        counters would be those of all instances, so they stay away."""
        self._nvml, self._handle, self._card = nvml, handle, card or handle
        self.index, self.mig, self.lost = index, card is not None, False
        self.name, self.uuid = str(nvml.nvmlDeviceGetName(handle)), str(nvml.nvmlDeviceGetUUID(handle))
        self.joules: float | None = None
        self._counter: float | None = None
        self._readings = [self._memory, self._temperature, self._clocks, self._throttling]
        self._pcie_readings: list[Callable[[], dict[str, Any]]] = []
        if not self.mig:
            self._readings += [self._utilization, self._power, self._energy]
            self._pcie_readings = [self._pcie]

    def facts(self) -> dict[str, Any]:
        known = {"index": self.index, "name": self.name, "uuid": self.uuid, "mig": self.mig, "lost": self.lost}
        return known if self.joules is None else {**known, "energy_joules": round(self.joules, 1)}

    def read(self, with_pcie: bool) -> dict[str, Any]:
        """Raises what tells that the card is gone."""
        row: dict[str, Any] = {"index": self.index}
        row |= self._tried(self._readings)
        if with_pcie:
            row |= self._tried(self._pcie_readings)
        return row

    def _tried(self, readings: list[Callable[[], dict[str, Any]]]) -> dict[str, Any]:
        nvml, row = self._nvml, dict[str, Any]()
        for reading in [*readings]:
            try:
                row |= reading()
            except nvml.NVMLError as error:
                if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                    raise
                if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION):
                    readings.remove(reading)  # others may pass
        return row

    def _memory(self) -> dict[str, Any]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return {"memory_used_bytes": int(memory.used), "memory_total_bytes": int(memory.total)}

    def _temperature(self) -> dict[str, Any]:
        return {"temperature_celsius": int(self._nvml.nvmlDeviceGetTemperature(self._card, self._nvml.NVML_TEMPERATURE_GPU))}

    def _clocks(self) -> dict[str, Any]:
        kinds = {"sm_clock_mhz": self._nvml.NVML_CLOCK_SM, "memory_clock_mhz": self._nvml.NVML_CLOCK_MEM}
        return {name: int(self._nvml.nvmlDeviceGetClockInfo(self._card, kind)) for name, kind in kinds.items()}

    def _throttling(self) -> dict[str, Any]:
        bits = int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._card))
        return {"throttle_reasons": [name for bit, name in THROTTLE_REASONS.items() if bits & bit]}

    def _utilization(self) -> dict[str, Any]:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return {"utilization_percent": int(rates.gpu), "memory_utilization_percent": int(rates.memory)}

    def _power(self) -> dict[str, Any]:
        return {"power_watts": self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3}

    def _energy(self) -> dict[str, Any]:
        """The counter runs since the driver was loaded; if it is loaded anew meanwhile, it begins at zero."""
        counter = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        before = counter if self._counter is None else self._counter
        self.joules = (self.joules or 0.0) + (counter - before if counter >= before else counter)
        self._counter = counter
        return {"energy_joules": round(self.joules, 1)}

    def _pcie(self) -> dict[str, Any]:
        kinds = {"pcie_sent": self._nvml.NVML_PCIE_UTIL_TX_BYTES, "pcie_received": self._nvml.NVML_PCIE_UTIL_RX_BYTES}
        return {
            f"{name}_bytes_per_second": int(self._nvml.nvmlDeviceGetPcieThroughput(self._handle, kind)) * 1024  # told in KB
            for name, kind in kinds.items()
        }


def _visible_devices(nvml: Any, visible: str | None) -> Iterator[_Device]:
    """In CUDA's order, if that is by bus: with unequal cards CUDA_DEVICE_ORDER=PCI_BUS_ID makes it so.

    Unset: all.  Else a list of indices and UUIDs, which may be shortened; what follows an unknown entry is not visible.  Where CUDA finds a
    MIG instance, it shows that one alone."""
    cards = list(_handles(nvml))
    instances = {index: list(_instances(nvml, card)) for index, card in cards}
    chosen: list[tuple[int, Any, Any]] = []
    for word in map(str, (index for index, _ in cards)) if visible is None else map(str.strip, visible.split(",")):
        known = _named(nvml, word, cards, instances)
        if known is None:
            break
        chosen.append(known)
    mig = [entry for entry in chosen if entry[2] is not None]
    for index, handle, card in mig[:1] or chosen:
        yield _Device(nvml, handle, index, card)


def _named(nvml: Any, word: str, cards: list[tuple[int, Any]], instances: Mapping[int, list[Any]]) -> tuple[int, Any, Any] | None:
    """(index, handle, card of a MIG instance) of one entry of CUDA_VISIBLE_DEVICES."""
    for index, card in cards:
        if word == str(index) or (word.startswith("GPU-") and str(nvml.nvmlDeviceGetUUID(card)).startswith(word)):
            return (index, instances[index][0], card) if instances[index] else (index, card, None)
        for instance in instances[index]:
            if word.startswith("MIG-") and str(nvml.nvmlDeviceGetUUID(instance)).startswith(word):
                return index, instance, card
    return None


def _handles(nvml: Any) -> Iterator[tuple[int, Any]]:
    """(index, handle) of each card that answers."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            yield index, nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            continue


def _instances(nvml: Any, card: Any) -> Iterator[Any]:
    """Handles of the MIG instances; none where the card does not have MIG, or has it off."""
    try:
        if nvml.nvmlDeviceGetMigMode(card)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(card)
    except nvml.NVMLError:
        return
    for number in range(count):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)
        except nvml.NVMLError:
            continue


def _said(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) < 200 else f"{text[:200]}…"
