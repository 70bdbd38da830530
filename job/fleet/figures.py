"""What is measured of every GPU, to be held against the others of its group, and what may have slowed one down."""

from collections.abc import Iterator, Mapping

from job.core.acceptance_records import Verdict
from job.fleet.outliers import Figure

SPEEDS = {mode: Figure(name=f"images/s, {mode}", unit="images/s", bad="low", floor=0.005) for mode in ("bf16", "tf32", "fp32")}
POWER = Figure(name="power", unit="W", bad="both", floor=0.02)
TEMPERATURE = Figure(name="temperature", unit="°C", bad="high", floor=1.0, ratio=False)
TO_DEVICE, TO_HOST, WITHIN = (
    Figure(name=name, unit="GB/s", bad="low", floor=0.01) for name in ("host to device", "device to host", "device memory")
)

THROTTLED = "throttled "
"""how the names of shares of the time begin"""
QUOTA = f"{THROTTLED}container"
MORE = 0.05
"""share of the time, beyond that of the group, from which a reason to throttle counts as a cause"""
SLOWER_CLOCK = 0.03
"""share below the group's median from which a clock counts as one"""


def figures_of(verdict: Verdict) -> dict[Figure, float]:
    """Those that the device told: medians while the rounds were running, of the temperature the greatest."""
    found = {SPEEDS[result["mode"]]: result["images_per_second"]["median"] for result in verdict["modes"]}
    load, bandwidth = verdict["load"], verdict["bandwidth"]
    if "power_watts" in load:
        found[POWER] = load["power_watts"]["median"]
    if "temperature_celsius" in load:
        found[TEMPERATURE] = load["temperature_celsius"]["greatest"]
    if bandwidth is not None:
        found[TO_DEVICE] = bandwidth["host_to_device_bytes_per_second"] / 1e9
        found[TO_HOST] = bandwidth["device_to_host_bytes_per_second"] / 1e9
        found[WITHIN] = bandwidth["device_bytes_per_second"] / 1e9
    return found


def likely_causes(verdict: Verdict, medians: Mapping[str, float]) -> str:
    """Why this GPU may be slow, in one clause; `medians`: `states_of` over its group."""
    return "; ".join(_causes(verdict, medians)) or "no cause among what was recorded"


def states_of(verdict: Verdict) -> dict[str, float]:
    """What a cause is seen by: shares of the time that were throttled, clocks in MHz, the link to the host."""
    load = verdict["load"]
    found = {f"{THROTTLED}{reason}": share for reason, share in load.get("throttled", {}).items()}
    if "container_throttled_seconds" in load:
        found[QUOTA] = load["container_throttled_seconds"] / max(load.get("seconds", 0.0), 1e-9)
    for clock in ("sm_clock_mhz", "memory_clock_mhz"):
        if clock in load:
            found[clock] = load[clock]["median"]
    for key in ("generation", "width"):
        if key in load.get("pcie", {}):
            found[f"pcie {key}"] = load["pcie"][key]
    return found


def _causes(verdict: Verdict, medians: Mapping[str, float]) -> Iterator[str]:
    states, load = states_of(verdict), verdict["load"]
    for name, share in states.items():
        if not name.startswith(THROTTLED) or share <= medians.get(name, 0.0) + MORE:
            continue
        if name == QUOTA:
            limit = f" of {load['container_cpu_limit_cores']:g} CPUs" if "container_cpu_limit_cores" in load else ""
            yield f"the container's quota{limit} held its threads back {share:.2g} s in each second"
        else:
            yield f"clocks held back by {name.removeprefix(THROTTLED).replace('_', ' ')} {share:.0%} of the time"
    if link := _lesser_link(verdict, medians):
        yield link
    for clock, name in (("sm_clock_mhz", "multiprocessors"), ("memory_clock_mhz", "memory")):
        usual = medians.get(clock, 0.0)
        if clock in states and states[clock] < usual * (1 - SLOWER_CLOCK):
            yield f"clock of the {name} {states[clock]:,.0f} MHz, that of the others {usual:,.0f}"


def _lesser_link(verdict: Verdict, medians: Mapping[str, float]) -> str:
    """PCIe below what the others have, or what card and slot can do."""
    link = verdict["load"].get("pcie", {})
    width, generation = link.get("width", 0), link.get("generation", 0)
    most = (
        max(link.get("width_max", 0), medians.get("pcie width", 0)),
        max(link.get("generation_max", 0), medians.get("pcie generation", 0)),
    )
    if not link or (width >= most[0] and generation >= most[1]):
        return ""
    return f"PCIe {generation} ×{width}, expected PCIe {most[1]:.0f} ×{most[0]:.0f}"
