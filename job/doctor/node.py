"""The node and the container: packages, GPU, memory, CPUs, shared memory, disks."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path

import numpy as np
import psutil

from job.core.recipe import Recipe
from job.data.cifar_binary import RECORD
from job.doctor.kernel import Report
from job.doctor.page import Line, Setup, failed
from job.runs.run import RETAINED
from job.storage.errors import StoreError
from job.storage.files import local_errors
from job.telemetry.cgroup import Cgroup, Limits
from job.telemetry.gpu import Survey

PACKAGES = ("alexnet-job", "numpy", "boto3", "safetensors", "nvidia-ml-py")
SHARED_MEMORY = "/dev/shm"  # noqa: S108
IMAGES = 60_000
"""of CIFAR-10, training and test"""
MEMORY_MARGIN = 1.1
"""memory below the need times this gives a warning, since allocators and file buffers are not in the sum"""
FRAMEWORK_BYTES = 820_000_000
"""bytes that either framework took on a CPU (torch 2.14 and TensorFlow 2.21, x86-64), used if the kernel check gave no figure"""
SPOOLED_CHECKPOINTS, STORED_CHECKPOINTS = 2, RETAINED + 2
"""that exist at the same time: in the spool one being uploaded and one being written; in the store also the best one"""


def limits() -> Limits:
    return Cgroup().limits()


def used_bytes() -> int | None:
    """Memory in use by the container, this process included; None where it is not known."""
    return Cgroup().usage().memory_bytes


def packages() -> Line:
    found, missing = [f"Python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        remedy = "Install the project with `pip install alexnet-job`, or use its image."
        return Line(check="packages", level="fail", reason=f"not installed: {', '.join(missing)}", remedy=remedy)
    return Line(check="packages", level="pass", reason=", ".join(found))


def visible_gpus() -> tuple[list[Survey], str]:
    """(facts of each visible device, "" or the reason why there is none), from NVML."""
    from job.telemetry.gpu import NoDriver, devices

    try:
        return devices(), ""
    except NoDriver as error:
        return [], str(error)


def gpu(device: str, found: list[Survey], absent: str) -> Line:
    if not found:
        return Line(
            check="gpu",
            level="fail" if device == "cuda" else "warn",
            reason=f"no GPU is here ({absent})",
            remedy="For a GPU: check `nvidia-smi`, `docker run --gpus all`, the Job's `nvidia.com/gpu` and NVIDIA_VISIBLE_DEVICES.",
        )
    names = ", ".join(map(_device, found))
    if device == "cpu":
        return Line(check="gpu", level="warn", reason=f"{names}: not used, as --device is cpu", remedy="Leave --device out to use it.")
    reason = f"NVML readable, driver {found[0]['driver']} for CUDA up to {found[0]['cuda']}: {names}"
    return Line(check="gpu", level="pass", reason=reason)


def _device(facts: Survey) -> str:
    size = f" with {facts['memory_total_bytes'] / 1e9:.0f} GB" if "memory_total_bytes" in facts else ""
    return f"{facts['name']}{size}{' (a MIG slice)' if facts['mig'] else ''}"


def memory_needs(recipe: Recipe, networks: int, reports: Sequence[Report]) -> dict[str, int]:
    """Part → bytes of host memory that a training of so many networks needs.  The framework's part is the peak of the process that
    checked its kernels."""
    architecture = recipe.architecture()
    size = np.dtype(recipe.dtype).itemsize
    measured = [report for report in reports if "memory_bytes" in report]
    found = {
        "framework": max((report["memory_bytes"] for report in measured), default=FRAMEWORK_BYTES),
        "dataset, twice": 2 * IMAGES * RECORD,
        "snapshot, a tensor at a time": size * max(int(np.prod(shape)) for shape in architecture.parameter_shapes.values()),
    }
    if not measured or any(report["environment"]["device"] == "cpu" for report in measured):
        found["weights, gradients and slots"] = networks * size * architecture.parameters * (2 + len(recipe.slots))
        found["activations"] = networks * size * recipe.batch_size * sum(prod(row.out_shape) for row in architecture.layers)
    return found


def memory(parts: Mapping[str, int], limit: Limits, used: int | None) -> Line:
    """`parts`: the need, part by part; `used`: bytes that the container uses already."""
    need, total = sum(parts.values()), psutil.virtual_memory()
    room = total.available if limit.memory_bytes is None else min(limit.memory_bytes - (used or 0), total.available)
    listing = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
    source = (
        f"the node's {total.total / 1e9:.1f} GB, as the container has no limit"
        if limit.memory_bytes is None
        else f"the container's limit of {limit.memory_bytes / 1e9:.2f} GB (cgroup {limit.version})"
    )
    reason = f"about {need / 1e9:.2f} GB needed ({listing}), {room / 1e9:.2f} GB free of {source}"
    if room >= MEMORY_MARGIN * need:
        return Line(check="memory", level="pass", reason=reason)
    return Line(
        check="memory",
        level="warn" if room >= need else "fail",
        reason=reason,
        remedy=f"Raise resources.limits.memory or `docker run --memory` to {MEMORY_MARGIN * need / 1e9 + (used or 0) / 1e9:.1f} GB, "
        "or choose a smaller batch_size or width.",
    )


def cpus(limit: Limits) -> Line:
    visible = len(os.sched_getaffinity(0))
    if limit.cpus is None:
        return Line(check="cpus", level="pass", reason=f"{visible}, no quota")
    reason = f"a quota of {limit.cpus:g} on {visible} that are visible (cgroup {limit.version})"
    if limit.cpus >= 1:
        return Line(check="cpus", level="pass", reason=reason)
    remedy = "Raise resources.limits.cpu to at least 1: the host prepares each step, and a throttled one leaves the GPU idle."
    return Line(check="cpus", level="warn", reason=reason, remedy=remedy)


def shared_memory() -> Line:
    """The job does not use /dev/shm, so that every size passes."""
    try:
        size = f"{shutil.disk_usage(SHARED_MEMORY).total / 1e6:.0f} MB"
    except OSError:
        size = "absent"
    return Line(check=SHARED_MEMORY, level="pass", reason=f"{size}; none is needed")


def disks(setup: Setup) -> Iterator[Line]:
    """Free space for the checkpoints in the spool and, with a local `--output`, in the output folder."""
    from job.storage.folder import FolderStore
    from job.storage.opening import open_store

    local = None
    if setup.output is not None and not setup.output.startswith("s3:"):
        store = open_store(setup.output)
        assert isinstance(store, FolderStore)
        local = store.root
        yield disk("disk of --output", local, STORED_CHECKPOINTS * setup.checkpoint_bytes, f"{STORED_CHECKPOINTS} checkpoints")
    spool = setup.spool or local or Path(tempfile.gettempdir())
    yield disk("disk of the spool", spool, SPOOLED_CHECKPOINTS * setup.checkpoint_bytes, f"{SPOOLED_CHECKPOINTS} checkpoints")


def disk(check: str, folder: Path, need: int, what: str) -> Line:
    place = folder.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        with local_errors(folder), tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except (StoreError, FileNotFoundError) as error:
        return failed(check, error)
    free = shutil.disk_usage(place).free
    reason = f"{free / 1e9:.2f} GB free at {folder}, {need / 1e9:.2f} GB needed ({what})"
    if free >= need:
        return Line(check=check, level="pass", reason=reason)
    return Line(check=check, level="fail", reason=reason, remedy="Free some, or choose another folder with --spool or --output.")
