"""The GPUs that CUDA shows this process, and the readings of each, through a module like nvidia-ml-py's pynvml.

What a device does not report is left out, never zero.  Sources: NVML API reference; CUDA programming guide, "CUDA environment variables";
MIG user guide, "Device names" and "CUDA visibility".
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from job.core.resource_records import GpuFacts, GpuFigures, GpuIdentity, GpuRow, Health, PcieLink
from job.telemetry.health import Card

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
"""NVML's bits (nvmlClocksThrottleReason…) without 0x1, idle"""

Reading = Callable[[], GpuFigures]


class Device:
    """A GPU or a MIG instance, and the readings that it has not yet refused."""

    def __init__(self, nvml: Any, handle: Any, index: int, card: Any = None) -> None:
        """`card`: of a MIG instance, the whole card, which alone has temperature and clocks.  Its utilisation, power, energy and PCIe
        counters would be those of all instances, so they are left out."""
        self._nvml, self._handle, self._card = nvml, handle, card or handle
        self.index, self.mig, self.lost = index, card is not None, False
        self.name = _text(nvml, nvml.nvmlDeviceGetName, handle) or "a GPU without a name"
        self.uuid = _text(nvml, nvml.nvmlDeviceGetUUID, handle)
        self.joules: float | None = None
        """since the first reading, where there is a counter"""
        self._counter: float | None = None
        self._readings: list[Reading] = [self._memory, self._temperature, self._clocks, self._throttling]
        self._pcie_readings: list[Reading] = []
        if not self.mig:
            self._readings += [self._utilization, self._power, self._energy]
            self._pcie_readings = [self._pcie]

    def facts(self) -> GpuFacts:
        known: GpuFacts = {"index": self.index, "name": self.name, "uuid": self.uuid, "mig": self.mig, "lost": self.lost}
        if self.joules is not None:
            known["energy_joules"] = round(self.joules, 1)
        return known

    def identity(self, position: int) -> GpuIdentity:
        """`position`: among those that are visible."""
        known: GpuIdentity = {"name": self.name, "uuid": self.uuid, "position": position, "mig": self.mig}
        if (total := self.read(False).get("memory_total_bytes")) is not None:
            known["memory_total_bytes"] = total
        return Card(self._nvml, self._card).identity(known)

    def health(self) -> Health:
        """Of the whole card."""
        return Card(self._nvml, self._card).health()

    def link(self) -> PcieLink:
        """Of the whole card, as it is while something runs."""
        return Card(self._nvml, self._card).pcie()

    def read(self, with_pcie: bool) -> GpuRow:
        """Raises NVMLError when the card is gone."""
        figures = self._tried(self._readings)
        if with_pcie:
            figures |= self._tried(self._pcie_readings)
        if self.mig:
            figures["mig"] = True
        return {"index": self.index, **figures}

    def _tried(self, readings: list[Reading]) -> GpuFigures:
        nvml, figures = self._nvml, GpuFigures()
        for reading in [*readings]:
            try:
                figures |= reading()
            except nvml.NVMLError as error:
                if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                    raise
                if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION):
                    readings.remove(reading)  # other errors may pass
        return figures

    def _memory(self) -> GpuFigures:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return {"memory_used_bytes": int(memory.used), "memory_total_bytes": int(memory.total)}

    def _temperature(self) -> GpuFigures:
        return {"temperature_celsius": int(self._nvml.nvmlDeviceGetTemperature(self._card, self._nvml.NVML_TEMPERATURE_GPU))}

    def _clocks(self) -> GpuFigures:
        clock, nvml = self._nvml.nvmlDeviceGetClockInfo, self._nvml
        return {
            "sm_clock_mhz": int(clock(self._card, nvml.NVML_CLOCK_SM)),
            "memory_clock_mhz": int(clock(self._card, nvml.NVML_CLOCK_MEM)),
        }

    def _throttling(self) -> GpuFigures:
        bits = int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._card))
        return {"throttle_reasons": [name for bit, name in THROTTLE_REASONS.items() if bits & bit]}

    def _utilization(self) -> GpuFigures:
        rates = self._nvml.nvmlDeviceGetUtilizationRates(self._handle)
        return {"utilization_percent": int(rates.gpu), "memory_utilization_percent": int(rates.memory)}

    def _power(self) -> GpuFigures:
        return {"power_watts": self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3}

    def _energy(self) -> GpuFigures:
        """The counter runs since the driver was loaded; if the driver is reloaded, it restarts at zero."""
        counter = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        before = counter if self._counter is None else self._counter
        self.joules = (self.joules or 0.0) + (counter - before if counter >= before else counter)
        self._counter = counter
        return {"energy_joules": round(self.joules, 1)}

    def _pcie(self) -> GpuFigures:
        kilobytes, nvml = self._nvml.nvmlDeviceGetPcieThroughput, self._nvml
        return {
            "pcie_sent_bytes_per_second": int(kilobytes(self._handle, nvml.NVML_PCIE_UTIL_TX_BYTES)) * 1024,
            "pcie_received_bytes_per_second": int(kilobytes(self._handle, nvml.NVML_PCIE_UTIL_RX_BYTES)) * 1024,
        }


def visible_devices(nvml: Any, visible: str | None) -> Iterator[Device]:
    """In CUDA's order, if that is by bus: with unequal cards CUDA_DEVICE_ORDER=PCI_BUS_ID makes it so.

    `visible` is CUDA_VISIBLE_DEVICES.  None: all.  Else a list of indices and UUIDs, which may be shortened; what follows an unknown entry
    is not visible.  Where CUDA finds a MIG instance, it shows that one alone."""
    cards = list(_handles(nvml))
    instances = {index: list(_instances(nvml, card)) for index, card in cards}
    words = [str(index) for index, _ in cards] if visible is None else [word.strip() for word in visible.split(",")]
    chosen: list[tuple[int, Any, Any]] = []
    for word in words:
        known = _named(nvml, word, cards, instances)
        if known is None:
            break
        chosen.append(known)
    mig = [entry for entry in chosen if entry[2] is not None]
    for index, handle, card in mig[:1] or chosen:
        yield Device(nvml, handle, index, card)


def _named(nvml: Any, word: str, cards: list[tuple[int, Any]], instances: Mapping[int, list[Any]]) -> tuple[int, Any, Any] | None:
    """(index, handle, card of a MIG instance) of one entry of CUDA_VISIBLE_DEVICES."""
    for index, card in cards:
        if word == str(index) or (word.startswith("GPU-") and _text(nvml, nvml.nvmlDeviceGetUUID, card).startswith(word)):
            return (index, instances[index][0], card) if instances[index] else (index, card, None)
        for instance in instances[index]:
            if word.startswith("MIG-") and _text(nvml, nvml.nvmlDeviceGetUUID, instance).startswith(word):
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


def _text(nvml: Any, question: Callable[[Any], Any], handle: Any) -> str:
    """The answer, or "" where there is none."""
    try:
        return str(question(handle))
    except nvml.NVMLError:
        return ""
