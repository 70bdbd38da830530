"""A GPU that breaks in mid-run is the node's fault, and said so; other errors are not taken for it.  See `faults`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from job import engines
from job.core.exits import Exit
from job.engines.faults import no_gpu
from job.storage.folder import FolderStore

ROOT = Path(__file__).parents[2]
GPU = {"illegal access", "ECC", "cuDNN", "launch", "GPU memory"}


@pytest.fixture(scope="module", params=engines.ENGINES)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    if request.param not in engines.installed():
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, "-m", "tests.engines.faults", request.param, str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "ALEXNET_NODE": "node-7"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), folder


def test_errors_of_the_gpu_are_the_nodes(found: tuple[dict[str, Any], Path]) -> None:
    errors, _ = found
    assert {what for what, (_, code, _) in errors.items() if code == Exit.DEVICE} == GPU
    assert all("node-7" in errors[what][2] for what in GPU)
    assert "dmesg | grep -i xid" in errors["illegal access"][2]
    assert "lower batch_size" in errors["GPU memory"][2]
    assert "more lines" not in errors["illegal access"][2]


def test_others_are_not(found: tuple[dict[str, Any], Path]) -> None:
    """A lack of host memory, an index out of range, shapes that do not fit, and what is no error of the framework."""
    errors, _ = found
    assert {what for what, (_, code, _) in errors.items() if code is None} == {"host memory", "assertion", "shapes", "program"}


def test_the_attempt_ends_with_71(found: tuple[dict[str, Any], Path]) -> None:
    _, folder = found
    store = FolderStore(folder / "runs")
    (attempt,) = store.folders("r/attempts/")
    end = json.loads(store.get(f"r/attempts/{attempt}/end.json"))
    assert (end["exit_code"], end["step"]) == (Exit.DEVICE, 1)
    assert end["reason"].startswith("the GPU of node-7 failed under")


POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NVIDIA_VISIBLE_DEVICES": "all", "ALEXNET_NODE": "node-7"}


@pytest.mark.parametrize(
    ("variables", "cards", "code"),
    [
        (POD, 0, Exit.DEVICE),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 0, Exit.DEVICE),
        ({}, 1, Exit.DEVICE),
        ({}, 0, Exit.CONFIGURATION),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, 0, Exit.CONFIGURATION),
        ({**POD, "NVIDIA_VISIBLE_DEVICES": "void"}, 0, Exit.CONFIGURATION),
        ({**POD, "CUDA_VISIBLE_DEVICES": ""}, 1, Exit.CONFIGURATION),
    ],
)
def test_whose_fault_a_missing_gpu_is(variables: dict[str, str], cards: int, code: Exit, tmp_path: Path) -> None:
    for number in range(cards):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    error = no_gpu("torch", "none", variables, tmp_path)
    assert error.code is code
    assert "sees no usable GPU" in str(error)
    assert ("node-7" in str(error)) is (code is Exit.DEVICE and "ALEXNET_NODE" in variables)
