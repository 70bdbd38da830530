"""Counters and states of a card that tell whether it, its memory and its links are sound.  Source: NVML API reference.

What a card does not tell is left out.
"""

from collections.abc import Callable
from typing import Any, cast

from job.core.resource_records import Ecc, GpuIdentity, Health, NvLinks, PcieLink

LINK_ERRORS = range(5)
"""NVML_NVLINK_ERROR_DL_REPLAY, RECOVERY, CRC_FLIT, CRC_DATA, ECC_DATA"""


class Card:
    """Questions to NVML, each of which may go unanswered."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def ask(self, question: str, *words: Any) -> Any:
        """The answer of `nvmlDeviceGet…`; None where there is none."""
        try:
            return getattr(self._nvml, f"nvmlDeviceGet{question}")(self._handle, *words)
        except (self._nvml.NVMLError, AttributeError):  # an older library does not know the question
            return None

    def health(self) -> Health:
        nvml = self._nvml
        found: Health = {}
        if ecc := self.ecc():
            found["ecc"] = ecc
        if pcie := self.pcie():
            found["pcie"] = pcie
        if nvlink := self.nvlink():
            found["nvlink"] = nvlink
        known: dict[str, Any] = {
            "temperature_celsius": self.ask("Temperature", nvml.NVML_TEMPERATURE_GPU),
            "power_watts": _thousandth(self.ask("PowerUsage")),
            "power_limit_watts": _thousandth(self.ask("EnforcedPowerLimit")),
            "sm_clock_max_mhz": self.ask("MaxClockInfo", nvml.NVML_CLOCK_SM),
        }
        found.update(_known(known))  # type: ignore[typeddict-item]
        return found

    def ecc(self) -> Ecc:
        """Since the driver was loaded: NVML's volatile counters."""
        rows = self.ask("RemappedRows")
        named = dict(zip(("remapped_corrected", "remapped_uncorrected", "remapping_pending", "remapping_failed"), rows or (), strict=False))
        kinds: dict[str, Callable[[Any], Any]] = {"remapping_pending": bool, "remapping_failed": bool}
        counted = {"corrected": self.ask("TotalEccErrors", 0, 0), "uncorrected": self.ask("TotalEccErrors", 1, 0)}
        return cast(Ecc, {key: kinds.get(key, int)(value) for key, value in _known({**counted, **named}).items()})

    def pcie(self) -> PcieLink:
        known = {
            "generation": self.ask("CurrPcieLinkGeneration"),
            "width": self.ask("CurrPcieLinkWidth"),
            "generation_max": self.ask("MaxPcieLinkGeneration"),
            "width_max": self.ask("MaxPcieLinkWidth"),
            "replays": self.ask("PcieReplayCounter"),
        }
        return cast(PcieLink, _known(known))

    def nvlink(self) -> NvLinks | None:
        states = [self.ask("NvLinkState", link) for link in range(getattr(self._nvml, "NVML_NVLINK_MAX_LINKS", 18))]
        there = [link for link, state in enumerate(states) if state is not None]
        if not there:
            return None
        errors = [self.ask("NvLinkErrorCounter", link, kind) or 0 for link in there for kind in LINK_ERRORS]
        return {"links": len(there), "active": sum(bool(states[link]) for link in there), "errors": sum(map(int, errors))}

    def identity(self, identity: GpuIdentity) -> GpuIdentity:
        """`identity`, with what the board itself says."""
        bus = self.ask("PciInfo")
        known = {
            "driver": self._nvml.nvmlSystemGetDriverVersion(),
            "serial": self.ask("Serial"),
            "vbios": self.ask("VbiosVersion"),
            "pci_bus_id": None if bus is None else bus.busId,
        }
        return {**identity, **{key: str(value) for key, value in _known(known).items()}}  # type: ignore[typeddict-item]


def _thousandth(value: Any) -> float | None:
    return None if value is None else value / 1e3


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
