"""`alexnet trace` and `alexnet parity` as users run them: real processes, a folder and a bucket."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from job import engines
from job.parity.tracefile import Trace
from job.storage.opening import open_store
from tests.support.commands import alexnet, arguments, environment
from tests.support.servers import weed

TINY = ("--width", "0.0625", "--image-size", "64", "--batch-size", "8", "--threads", "1")
SHORT = ("trace", "--engine", engines.installed()[0], *TINY, "--steps", "2", "--precision", "fp32", "--output")

HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if name.split(".")[0] in {hidden} else super().find_spec(name, *rest)

sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = {words}
from job.cli import main
main()
"""
"""`alexnet` where some packages are not installed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`torch.safetensors` and `tensorflow.safetensors`: 50 steps of the recipe `default` in fp64, made side by side."""
    if engines.installed() != engines.ENGINES:
        pytest.skip("needs both torch and tensorflow")
    found = tmp_path_factory.mktemp("traces")
    running = []
    for engine in engines.ENGINES:
        command = arguments("trace", "--engine", engine, *TINY, "--output", str(found / f"{engine}.safetensors"))
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()))
    for process in running:
        told, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "50 steps of default in fp64" in told
    return found


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A trace of two steps in fp32."""
    path = tmp_path_factory.mktemp("short") / "two.safetensors"
    result = alexnet(*SHORT, str(path))
    assert result.returncode == 0, result.stderr
    return path


def test_two_engines_agree(folder):
    result = alexnet("parity", str(folder / "torch.safetensors"), str(folder / "tensorflow.safetensors"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all within the limits" in result.stdout
    lines = result.stdout.splitlines()
    named = [line.split()[0] for line in lines if line.startswith(("inputs", "normalize", "features.", "classifier.", "logits", "loss"))]
    assert named[0] == "inputs"
    assert named.index("features.0") < named.index("features.12") < named.index("classifier.6") < named.index("loss")
    assert {"hits", "cross-entropy", "evaluation"} <= {line.split()[0] for line in lines if "  limit " in line}


def test_traces_of_other_recipes_are_refused(folder, short):
    result = alexnet("parity", str(folder / "torch.safetensors"), str(short))
    assert result.returncode == 2
    assert "precision: 'fp64' and 'fp32'" in result.stderr
    assert "steps: 50 and 2" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_trace_holds_what_was_asked_for(folder):
    tensors = load_file(folder / "torch.safetensors")
    assert {name.split("/")[0] for name in tensors} == {"initial", "losses", "other", "0", "1", "3", "4", "48", "49"}
    assert {name.split("/")[1] for name in tensors if name.startswith("48/")} == {"slots", "weights"}
    assert tensors["49/evaluation"].shape == tensors["other/evaluation"].shape == (9, 10)
    assert tensors["losses"].shape == (50,)
    assert tensors["49/logits"].shape == (8, 10)
    assert tensors["0/activations/features.0"].shape == (8, 4, 15, 15)
    facts = Trace(folder / "torch.safetensors", "").facts
    assert facts["recipe"]["precision"] == "fp64"
    assert facts["seed"] == 0
    assert facts["environment"]["engine"] == "torch"
    assert sum(name.endswith("/inputs") for name in facts["digests"]) == 50
    assert len({digest for name, digest in facts["digests"].items() if "/masks/" in name}) == 8


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_one_framework_is_enough(engine, tmp_path):
    if engine not in engines.installed():
        pytest.skip(f"{engine} is not installed")
    hidden = ("tensorflow", "keras") if engine == "torch" else ("torch", "torchvision")
    words = ["alexnet", "trace", *TINY, "--steps", "1", "--output", str(tmp_path / "trace.safetensors")]
    script = HIDING.format(hidden=hidden, words=words)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment())
    assert result.returncode == 0, result.stderr
    assert f"by {engine}" in result.stdout


def test_a_trace_in_a_bucket_is_the_same_bytes(short, monkeypatch):
    with weed() as server:
        server.make_bucket("traces")
        result = alexnet(*SHORT, "s3://traces/deep/two.safetensors", **server.environment)
        assert result.returncode == 0, result.stderr
        result = alexnet("parity", str(short), "s3://traces/deep/two.safetensors", "--json", **server.environment)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["first_difference"] is None
        result = alexnet(*SHORT, "s3://nowhere/two.safetensors", **server.environment)
        assert result.returncode == 78
        assert "nowhere" in result.stderr
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert open_store("s3://traces").get("deep/two.safetensors") == short.read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--at", "50"), "--at 50: there are 50 steps"),
        (("--at", "-51"), "--at -51"),
        (("--output", "s3://bucket"), "names no file"),
        (("--output", "folder/"), "names no file"),
        (("--set", "momentun=1"), "momentum"),
    ],
)
def test_bad_input_is_refused_before_the_work(words, said):
    result = alexnet("trace", "--engine", "torch", "--output", os.devnull, *words)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_weights_move(folder):
    tensors = load_file(folder / "tensorflow.safetensors")
    for name in ("features.0.weight", "classifier.6.bias"):
        assert not np.array_equal(tensors[f"initial/{name}"], tensors[f"49/weights/{name}"])


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_gradients_of_a_shard_are_bf16_numbers(engine, tmp_path):
    """In precision bf16, kept as float32: half of their bytes say all (docs/scaling.md)."""
    if engine not in engines.installed():
        pytest.skip(f"{engine} is not installed")
    path = tmp_path / "one.safetensors"
    result = alexnet("trace", "--engine", engine, *TINY, "--steps", "1", "--precision", "bf16", "--output", str(path))
    assert result.returncode == 0, result.stderr
    found = {name: array for name, array in load_file(path).items() if "gradients/" in name}
    assert len(found) == 16
    for name, array in found.items():
        assert array.dtype == np.float32
        assert not (array.view(np.uint32) & 0xFFFF).any(), name
