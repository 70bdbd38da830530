"""A module with nvidia-ml-py's interface that plays scripted devices, for machines without one.

`device(…)` makes a card; unset fields are NOT_SUPPORTED as on a real card.  `make(cards)` gives the module.  Names follow pynvml.
"""

import time
from types import SimpleNamespace
from typing import Any

NVML_ERROR_UNINITIALIZED = 1
NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_NOT_FOUND = 6
NVML_ERROR_GPU_IS_LOST = 15


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(
            {3: "Not Supported", 6: "Not Found", 12: "NVML Shared Library Not Found", 15: "GPU is lost"}.get(value, str(value))
        )
        self.value = value


def device(uuid: str, **fields: Any) -> SimpleNamespace:
    """fields: utilization (gpu, memory), memory (used, total), power in mW, energy in mJ, temperature, clock, reasons, pcie in KiB/s,
    slices [devices], lost (bool), hangs (seconds)."""
    return SimpleNamespace(uuid=uuid, **{"name": "A card", "slices": None, "lost": False, "hangs": 0.0, **fields})


def make(cards: list[SimpleNamespace] | None, driver: bool = True) -> Any:
    """The module; `cards` may be changed while it plays."""

    def field(card: SimpleNamespace, name: str) -> Any:
        time.sleep(card.hangs)
        if card.lost:
            raise NVMLError(NVML_ERROR_GPU_IS_LOST)
        value = getattr(card, name, None)
        if value is None:
            raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
        return value

    def start() -> None:
        if not driver:
            raise NVMLError(12)

    def by_uuid(uuid: str) -> SimpleNamespace:
        everything = [c for card in cards or [] for c in [card, *(card.slices or [])]]
        found = [card for card in everything if card.uuid == uuid]
        if not found:
            raise NVMLError(NVML_ERROR_NOT_FOUND)
        return found[0]

    def pair(values: tuple[Any, Any], first: str, second: str) -> SimpleNamespace:
        return SimpleNamespace(**{first: values[0], second: values[1]})

    def slice_of(card: SimpleNamespace, index: int) -> SimpleNamespace:
        if index >= len(card.slices):
            raise NVMLError(NVML_ERROR_NOT_FOUND)
        return card.slices[index]

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_ERROR_GPU_IS_LOST=NVML_ERROR_GPU_IS_LOST,
        NVML_ERROR_UNINITIALIZED=NVML_ERROR_UNINITIALIZED,
        NVML_ERROR_NOT_SUPPORTED=NVML_ERROR_NOT_SUPPORTED,
        NVML_ERROR_FUNCTION_NOT_FOUND=13,
        NVML_ERROR_NO_PERMISSION=4,
        NVML_ERROR_RESET_REQUIRED=16,
        NVML_DEVICE_MIG_ENABLE=1,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_PCIE_UTIL_TX_BYTES=0,
        NVML_PCIE_UTIL_RX_BYTES=1,
        nvmlInit=start,
        nvmlSystemGetDriverVersion=lambda: "580.65.06",
        nvmlDeviceGetCount=lambda: len(cards or []),
        nvmlDeviceGetHandleByIndex=lambda index: (cards or [])[index],
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetUUID=lambda card: card.uuid,
        nvmlDeviceGetName=lambda card: field(card, "name"),
        nvmlDeviceGetUtilizationRates=lambda card: pair(field(card, "utilization"), "gpu", "memory"),
        nvmlDeviceGetMemoryInfo=lambda card: pair(field(card, "memory"), "used", "total"),
        nvmlDeviceGetPowerUsage=lambda card: field(card, "power"),
        nvmlDeviceGetTotalEnergyConsumption=lambda card: field(card, "energy"),
        nvmlDeviceGetTemperature=lambda card, _: field(card, "temperature"),
        nvmlDeviceGetClockInfo=lambda card, _: field(card, "clock"),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda card: field(card, "reasons"),
        nvmlDeviceGetCurrentClocksEventReasons=lambda card: field(card, "reasons"),
        nvmlDeviceGetPcieThroughput=lambda card, _: field(card, "pcie"),
        nvmlDeviceGetMigMode=lambda card: (int(card.slices is not None), int(card.slices is not None)),
        nvmlDeviceGetMaxMigDeviceCount=lambda card: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=slice_of,
    )
