"""A GPU that is missing, broken, or breaks in mid-run, in words: whose fault it is, and what to do."""

import os
from collections.abc import Mapping
from pathlib import Path

from job.core.exits import Exit, JobError

HIDDEN = ("", "none", "void")
"""values of NVIDIA_VISIBLE_DEVICES by which a container has no GPU"""
DEVICE_WORDS = r"CUDA|cuDNN|CUDNN_STATUS|cuBLAS|CUBLAS_STATUS|NCCL|GPU|ECC|Xid"
"""in an error's text: it comes from the device"""
OUR_FAULT = "device-side assert"
"""an index out of range, say, which any device would refuse"""


def no_gpu(engine: str, found: str, variables: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> JobError:
    """71, where this machine should have one: in a pod, or beside a card's device file.  78, where nothing suggests a GPU, or where the
    settings hide it."""
    visible = variables.get("NVIDIA_VISIBLE_DEVICES")
    hidden = variables.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or visible in HIDDEN
    in_pod = "KUBERNETES_SERVICE_HOST" in variables or "ALEXNET_NODE" in variables
    if not hidden and (in_pod or any(devices.glob("nvidia[0-9]*"))):
        expected = "this Job asks for one" if in_pod else "this machine has one"
        return JobError(
            Exit.DEVICE,
            f"--device cuda on {place(variables)}: {engine} sees no usable GPU ({found}), though {expected}. Another node may do. Here, "
            "look at `nvidia-smi`, the driver's version, the device plugin and the NVIDIA container runtime.",
        )
    return JobError(
        Exit.CONFIGURATION,
        f"--device cuda: {engine} sees no usable GPU ({found}). Expected an NVIDIA driver and at least one visible device: check "
        "`nvidia-smi`, `docker run --gpus all`, the Job's `nvidia.com/gpu` request, NVIDIA_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES; "
        "`--device cpu` trains without.",
    )


def too_few_gpus(gpu: int, visible: int) -> JobError:
    return JobError(
        Exit.CONFIGURATION,
        f"this worker's GPU has the number {gpu} on {place()}, and {visible} are visible. Expected one for each worker of the machine: "
        "give fewer --workers, or --gpus all.",
    )


def broken_gpu(engine: str, error: Exception) -> JobError:
    return JobError(
        Exit.DEVICE,
        f"{engine} sees a GPU on {place()}, but a first kernel on it failed: {reason(error)}. Another node may do; check the driver's "
        "version here.",
    )


def failed_gpu(engine: str, error: Exception) -> JobError:
    return JobError(
        Exit.DEVICE,
        f"the GPU of {place()} failed under {engine}: {reason(error)}. The run goes on from its last stored checkpoint, and another node "
        "may do. Here, look at `nvidia-smi -q` and `dmesg | grep -i xid`.",
    )


def full_gpu(engine: str, error: Exception) -> JobError:
    return JobError(
        Exit.DEVICE,
        f"the GPU of {place()} has no memory left for {engine}: {reason(error)}. Expected a GPU for this run alone: `nvidia-smi` shows who "
        "else uses it. If nobody does, lower batch_size or image_size, or set precision=bf16.",
    )


def place(variables: Mapping[str, str] = os.environ) -> str:
    """The node, as the manifest tells it, else the host."""
    return variables.get("ALEXNET_NODE") or os.uname().nodename


def reason(error: Exception) -> str:
    """The first line of its text."""
    return str(error).strip().splitlines()[0][:300].rstrip(".") if str(error).strip() else type(error).__name__
