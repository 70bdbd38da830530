"""What `--init-from` reads of a `.pth` file, without PyTorch, is what PyTorch itself reads of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from job.runs.pretrained import fetch_weights
from job.runs.tensorfile import read_tensors

WRITE = """
import sys
import torch
from safetensors.torch import save_file
from torch import nn

folder = sys.argv[1]
model = nn.Sequential()
model.features = nn.Sequential(nn.Conv2d(3, 8, 11), nn.BatchNorm2d(8))
model.classifier = nn.Linear(8, 1000)
state = model.state_dict()
big = torch.randn(5, 8, 3, 11, 11)
files = {
    "plain": state,
    "dict": dict(state),
    "parameters": dict(model.named_parameters()),
    "channels-last": model.to(memory_format=torch.channels_last).state_dict(),
    "half": model.half().state_dict(),
    "bfloat16": {n: t.bfloat16() if t.is_floating_point() else t for n, t in state.items()},
    "float64": {n: t.double() if t.is_floating_point() else t for n, t in state.items()},
    "views": {"features.0.weight": big[3], "transposed": big.transpose(1, 4), "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)},
}
for name, value in files.items():
    torch.save(value, f"{folder}/{name}.pth")
    loaded = torch.load(f"{folder}/{name}.pth", weights_only=True)
    floats = {n: t.float().contiguous().clone() for n, t in loaded.items() if t.is_floating_point()}
    save_file(floats, f"{folder}/{name}.safetensors")
torch.save(model, f"{folder}/module.pth")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("torch")
    subprocess.run([sys.executable, "-c", WRITE, str(made)], check=True, timeout=120)
    return made


@pytest.mark.parametrize("name", ["plain", "dict", "parameters", "channels-last", "half", "bfloat16", "float64", "views"])
def test_the_same_tensors_as_torch_reads(name: str, folder: Path, tmp_path: Path) -> None:
    expected = dict(read_tensors(folder / f"{name}.safetensors"))
    found = dict(read_tensors(fetch_weights(str(folder / f"{name}.pth"), tmp_path)))
    assert found.keys() == expected.keys()
    for tensor, array in expected.items():
        assert found[tensor].dtype == np.float32
        np.testing.assert_array_equal(found[tensor], array, err_msg=tensor)


def test_a_pickled_module_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="not allowed"):
        fetch_weights(str(folder / "module.pth"), tmp_path)
