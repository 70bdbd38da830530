"""What is stored about the machine: a line of resources-*.jsonl, and the sums over them in summary.json.

What a machine does not tell is left out, never zero; so most fields may be missing.  docs/formats.md is drawn from this file.
"""

from typing import NotRequired, TypedDict


class Spread(TypedDict):
    """Of several measurements of one thing."""

    median: float
    """half of them are at most this"""
    least: float
    """the least of them"""
    greatest: float
    """the greatest of them"""


class GpuFigures(TypedDict, total=False):
    """What one GPU, or one MIG instance, tells of itself.  A MIG instance has its memory, and its card's temperature and clocks."""

    memory_used_bytes: int
    """memory in use, by all processes"""
    memory_total_bytes: int
    """memory there is"""
    temperature_celsius: int
    """of the card, in °C"""
    sm_clock_mhz: int
    """clock of the multiprocessors, in MHz"""
    memory_clock_mhz: int
    """clock of the memory, in MHz"""
    throttle_reasons: list[str]
    """why the clock is held back now, such as `thermal` or `power_cap`; empty: it is not"""
    utilization_percent: int
    """share of the time in which a kernel ran, in %"""
    memory_utilization_percent: int
    """share of the time in which memory was read or written, in %"""
    power_watts: float
    """power drawn, in W"""
    energy_joules: float
    """since the attempt began, in J"""
    pcie_sent_bytes_per_second: int
    """from the GPU to the host; every tenth second only"""
    pcie_received_bytes_per_second: int
    """from the host to the GPU; every tenth second only"""
    mig: bool
    """true: an instance of a partitioned card; absent: a whole card"""


class GpuRow(GpuFigures):
    """One GPU in a line of resources-*.jsonl."""

    index: int
    """position among the GPUs of the node, from 0"""


class MachineFigures(TypedDict, total=False):
    """Container, host and process at one moment; rates are over the interval of the row.  The container is the process's control group."""

    container_memory_bytes: int
    """memory of the container in use: its working set, without file pages that the kernel drops at need"""
    container_memory_limit_bytes: int
    """limit of that; absent: none"""
    container_cpu_limit_cores: float
    """quota of CPU time, in cores; absent: none"""
    container_out_of_memory_kills: int
    """processes of the container that the kernel killed for their memory, since the attempt began"""
    host_memory_used_bytes: int
    """memory of the node in use"""
    host_memory_total_bytes: int
    """memory of the node"""
    process_memory_bytes: int
    """resident memory of the training process"""
    process_seconds: float
    """age of the training process, in s"""
    container_cpu_cores: float
    """CPU time used by the container, in cores"""
    container_throttled_seconds_per_second: float
    """seconds in which threads wanted to run and the quota did not let them, in each second"""
    host_cpu_cores: float
    """CPU time used on the node, in cores"""
    process_cpu_cores: float
    """CPU time used by the training process, in cores"""
    disk_read_bytes_per_second: float
    """read by the training process from disks"""
    disk_written_bytes_per_second: float
    """written by the training process to disks"""
    network_received_bytes_per_second: float
    """received by the container, without loopback"""
    network_sent_bytes_per_second: float
    """sent by the container, without loopback"""


class TrainingGauges(TypedDict, total=False):
    """What the training adds to each row."""

    step: int
    """optimiser steps done"""
    epoch: int
    """epochs done"""
    spool_bytes: int
    """bytes that wait for their upload"""


class GpuRows(TypedDict, total=False):
    """The GPUs at one moment."""

    gpus: list[GpuRow]
    """those that the process uses; absent where none is, or none answers"""


class MachineRow(MachineFigures):
    """The machine but for its GPUs, and when it was looked at."""

    time: float
    """when the sample was taken, in seconds since 1970, by the node's clock"""
    interval_seconds: float
    """since the sample before"""


class ResourceRow(MachineRow, TrainingGauges, GpuRows):
    """A line of resources-*.jsonl: one sample, taken about once a second."""


class AttemptRow(ResourceRow):
    """A row as readers get it (`job.runs.results`)."""

    attempt: str
    """name of the attempt that stored it; the name of the folder, not a field of the line"""


class ContainerLimits(TypedDict):
    """What the container may use."""

    cpus: float | None
    """quota of CPU time, in cores; null: none"""
    memory_bytes: int | None
    """limit of memory; null: none"""
    version: str
    """of the control groups: `v1`, `v2`, `hybrid` or `none`"""


class GpuFacts(TypedDict):
    """One GPU in the summary."""

    index: int
    """position among the GPUs of the node, from 0"""
    name: str
    """product name"""
    uuid: str
    """as the driver gives it; empty where it does not"""
    mig: bool
    """true: an instance of a partitioned card"""
    lost: bool
    """true: it stopped answering during the attempt"""
    energy_joules: NotRequired[float]
    """since the attempt began, in J; absent without a counter"""


class GpuIdentity(TypedDict):
    """Which device was under test."""

    name: str
    """product name; on a CPU its model"""
    uuid: str
    """as the driver gives it; empty on a CPU, and where the driver does not say"""
    position: int
    """among the GPUs of the node that are visible, from 0"""
    mig: bool
    """true: an instance of a partitioned card"""
    driver: NotRequired[str]
    """its version"""
    serial: NotRequired[str]
    """serial number of the board"""
    pci_bus_id: NotRequired[str]
    """place on the bus"""
    vbios: NotRequired[str]
    """version of the firmware"""
    memory_total_bytes: NotRequired[int]
    """memory there is"""


class PcieLink(TypedDict, total=False):
    """The link to the host."""

    generation: int
    """now; it falls when nothing runs"""
    width: int
    """lanes now"""
    generation_max: int
    """that card and slot can do"""
    width_max: int
    """the same for lanes"""
    replays: int
    """packets that had to be sent again, since the driver was loaded"""


class Ecc(TypedDict, total=False):
    """Errors of memory and caches, by their error-correcting codes, since the driver was loaded."""

    corrected: int
    """single-bit errors"""
    uncorrected: int
    """what could not be corrected"""
    remapped_corrected: int
    """rows that were replaced because of corrected errors"""
    remapped_uncorrected: int
    """rows that were replaced because of uncorrected errors"""
    remapping_pending: bool
    """true: a row waits for a reset to be replaced"""
    remapping_failed: bool
    """true: there was no spare row"""


class NvLinks(TypedDict):
    """Links to other GPUs."""

    links: int
    """that there are"""
    active: int
    """that are up"""
    errors: int
    """counted by all of them: replays, recoveries, CRC errors"""


class Health(TypedDict, total=False):
    """Counters and states of a GPU at one moment."""

    ecc: Ecc
    """absent: the device does not count"""
    pcie: PcieLink
    """absent for a MIG instance"""
    nvlink: NvLinks
    """absent: it has none"""
    temperature_celsius: int
    """of the card, in °C"""
    power_watts: float
    """drawn, in W"""
    power_limit_watts: float
    """that is enforced, in W"""
    sm_clock_max_mhz: int
    """greatest clock of the multiprocessors, in MHz"""


class ResourceTotals(TypedDict, total=False):
    """Peaks and averages over the rows of one attempt.  Averages over GPUs are those of one GPU, peaks the greatest of any."""

    peak_process_memory_bytes: int
    """greatest process_memory_bytes"""
    peak_container_memory_bytes: int
    """greatest container_memory_bytes"""
    peak_gpu_memory_bytes: int
    """greatest memory_used_bytes of a GPU"""
    mean_process_cpu_cores: float
    """average of process_cpu_cores"""
    mean_container_cpu_cores: float
    """average of container_cpu_cores"""
    mean_gpu_utilization_percent: float
    """average of utilization_percent, in %"""
    mean_gpu_power_watts: float
    """average of power_watts, in W"""
    container_throttled_seconds: float
    """seconds in which threads wanted to run and the quota did not let them"""
    container_out_of_memory_kills: int
    """processes that the kernel killed for their memory; absent: none"""
    energy_joules: float
    """of all GPUs that the process used, in J; absent unless each has a counter"""
    sampler_cpu_share: float
    """CPU time that the sampling took, as a share of the time"""


class ResourceFacts(ResourceTotals):
    """`resources` of the summary: what the attempt that finished the run used."""

    container: ContainerLimits
    """what it might use"""
    gpus: list[GpuFacts]
    """the GPUs that the process used; empty: none"""
