"""A stand-in for nvidia-ml-py that plays scripted cards, for machines without a GPU.

    nvml = Nvml([Card("GPU-a", power=300_000), Card("GPU-b", later={2.0: {"lost": True}})])

`Nvml` has the names of the module `pynvml`, in NVML's units, and the functions that job.telemetry asks.  Fields of a card that are not
set are not supported, as on real ones; they may be changed while it plays, or by `later`: seconds after nvmlInit → changes.
For a process of its own, a file pynvml.py on PYTHONPATH with `sys.modules[__name__] = Nvml([…])` takes the real module's place.
"""

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MESSAGES = {
    2: "Invalid Argument",
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    9: "Driver Not Loaded",
    13: "Function Not Found",
}
MESSAGES |= {12: "NVML Shared Library Not Found", 15: "GPU is lost", 16: "GPU requires restart", 999: "Unknown Error"}


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(MESSAGES[value])
        self.value = value


@dataclass(eq=False, kw_only=True)
class Card:
    uuid: str
    name: str = "NVIDIA Example"
    memory: tuple[int, int] | None = None
    """bytes used and in all"""
    utilization: tuple[int, int] | None = None
    """% of the time: a kernel ran, memory was used"""
    power: int | None = None
    """mW"""
    energy: int | None = None
    """mJ since the driver was loaded"""
    temperature: int | None = None
    clocks: tuple[int, int] | None = None
    """MHz of the multiprocessors and of the memory"""
    reasons: int | None = None
    """bits of nvmlClocksThrottleReason…"""
    pcie: tuple[int, int] | None = None
    """KB/s sent and received"""
    ecc: tuple[int, int] | None = None
    """errors corrected and not"""
    remapped: tuple[int, int, int, int] | None = None
    """rows because of corrected errors and of uncorrected ones; pending, failed"""
    link: tuple[int, int, int, int] | None = None
    """PCIe: generation and lanes, then the greatest of each"""
    replays: int | None = None
    nvlinks: list[int] | None = None
    """1 for a link that is up"""
    nvlink_errors: int | None = None
    """of each link and kind"""
    power_limit: int | None = None
    """mW"""
    clock_max: int | None = None
    board: tuple[str, str, str] | None = None
    """serial number, firmware, place on the bus"""
    instances: list["Card"] | None = None
    """MIG: a list where it is on"""
    lost: bool = False
    error: int | None = None
    """of every question but for names"""
    hangs: float = 0.0
    """seconds that each answer takes"""
    later: dict[float, dict[str, Any]] = field(default_factory=dict)


class Nvml:
    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_NOT_FOUND, NVML_ERROR_FUNCTION_NOT_FOUND = 3, 4, 6, 13
    NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED = 12, 15, 16
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES, NVML_DEVICE_MIG_ENABLE = 0, 1, 1

    def __init__(self, cards: list[Card], failure: int | None = None) -> None:
        """`failure`: the error of nvmlInit, as without a driver."""
        self._cards, self._failure = cards, failure
        self.asked: list[str] = []

    def nvmlInit(self) -> None:
        if self._failure is not None:
            raise NVMLError(self._failure)
        self._begun = time.monotonic()

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return len(self._cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        if self._cards[index].lost:
            raise NVMLError(15)
        return self._cards[index]

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        return [int(card.instances is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        if index >= len(card.instances or ()):
            raise NVMLError(6)
        return card.instances[index]  # type: ignore[index]

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        used, total = self._field(card, "memory")
        return SimpleNamespace(used=used, total=total, free=total - used)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:
        gpu, memory = self._field(card, "utilization")
        return SimpleNamespace(gpu=gpu, memory=memory)

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return self._field(card, "power")

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        return self._field(card, "energy")

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:
        return self._field(card, "temperature")

    def nvmlDeviceGetClockInfo(self, card: Card, kind: int) -> int:
        return self._field(card, "clocks")[kind - 1]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: Card) -> int:
        return self._field(card, "reasons")

    def nvmlDeviceGetPcieThroughput(self, card: Card, counter: int) -> int:
        return self._field(card, "pcie")[counter]

    def nvmlDeviceGetTotalEccErrors(self, card: Card, kind: int, counter: int) -> int:
        return self._field(card, "ecc")[kind]

    def nvmlDeviceGetRemappedRows(self, card: Card) -> tuple[int, int, int, int]:
        return self._field(card, "remapped")

    def nvmlDeviceGetCurrPcieLinkGeneration(self, card: Card) -> int:
        return self._field(card, "link")[0]

    def nvmlDeviceGetCurrPcieLinkWidth(self, card: Card) -> int:
        return self._field(card, "link")[1]

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card: Card) -> int:
        return self._field(card, "link")[2]

    def nvmlDeviceGetMaxPcieLinkWidth(self, card: Card) -> int:
        return self._field(card, "link")[3]

    def nvmlDeviceGetPcieReplayCounter(self, card: Card) -> int:
        return self._field(card, "replays")

    def nvmlDeviceGetNvLinkState(self, card: Card, link: int) -> int:
        links = self._field(card, "nvlinks")
        if link >= len(links):
            raise NVMLError(2)
        return links[link]

    def nvmlDeviceGetNvLinkErrorCounter(self, card: Card, link: int, kind: int) -> int:
        return self._field(card, "nvlink_errors")

    def nvmlDeviceGetEnforcedPowerLimit(self, card: Card) -> int:
        return self._field(card, "power_limit")

    def nvmlDeviceGetMaxClockInfo(self, card: Card, kind: int) -> int:
        return self._field(card, "clock_max")

    def nvmlDeviceGetSerial(self, card: Card) -> str:
        return self._field(card, "board")[0]

    def nvmlDeviceGetVbiosVersion(self, card: Card) -> str:
        return self._field(card, "board")[1]

    def nvmlDeviceGetPciInfo(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(busId=self._field(card, "board")[2])

    def _field(self, card: Card, name: str) -> Any:
        self.asked.append(name)
        for seconds in sorted(card.later):
            if time.monotonic() - self._begun >= seconds:
                vars(card).update(card.later.pop(seconds))
        time.sleep(card.hangs)
        if card.lost or card.error is not None:
            raise NVMLError(15 if card.lost else card.error or 0)
        if (value := getattr(card, name)) is None:
            raise NVMLError(3)
        return value
