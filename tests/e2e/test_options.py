"""Pretrained weights, validation, signals and log formats, through the real command."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from job.cli import COMMANDS
from tests.support.commands import Process, alexnet, arguments, digest, environment, model, summary, train

ENGINES = ("torch", "tensorflow")
FINE = ("--set", "pretrained=true", "--set", "pretrained_rate=0")
"""nothing but the last layer moves"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a run called `first`."""
    output = tmp_path_factory.mktemp("first")
    assert train("torch", output, "first").returncode == 0
    return output


def tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


@pytest.mark.parametrize("engine", ENGINES)
def test_another_runs_model_is_where_fine_tuning_begins(engine: str, trained: Path, tmp_path: Path) -> None:
    result = train(engine, tmp_path, "fine", *FINE, "--init-from", str(trained / "first"), "--cache", str(tmp_path / "cache"))
    assert result.returncode == 0, result.stderr
    before, after = tensors(model(trained, "first")), tensors(model(tmp_path, "fine"))
    for name, tensor in before.items():
        if name.endswith(".weight"):
            same = bool((tensor == after[name]).all())
            assert same is (not name.startswith("classifier.6")), name


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_as_torchvision_publishes_them(engine: str, trained: Path, tmp_path: Path) -> None:
    """torch.save of a state_dict with 1,000 classes, its name ending in the first digits of its digest."""
    script = (
        "import hashlib, pathlib, sys, torch\n"
        "from safetensors.torch import load_file\n"
        "state = load_file(sys.argv[1])\n"
        "state['classifier.6.weight'] = torch.zeros(1000, state['classifier.6.weight'].shape[1])\n"
        "state['classifier.6.bias'] = torch.zeros(1000)\n"
        "path = pathlib.Path(sys.argv[2]) / 'x.pth'\n"
        "torch.save(state, path)\n"
        "name = f'alexnet-owt-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'\n"
        "print(path.rename(path.with_name(name)))"
    )
    command = [sys.executable, "-c", script, str(model(trained, "first")), str(tmp_path)]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    result = train(engine, tmp_path, "fine", *FINE, "--init-from", path, "--cache", str(tmp_path / "cache"))
    assert result.returncode == 0, result.stderr
    before, after = tensors(model(trained, "first")), tensors(model(tmp_path, "fine"))
    assert (before["features.0.weight"] == after["features.0.weight"]).all()
    renamed = tmp_path / "alexnet-owt-00000000.pth"
    Path(path).rename(renamed)
    wrong = train(engine, tmp_path, "wrong", *FINE, "--init-from", str(renamed), "--cache", str(tmp_path / "cache"))
    assert wrong.returncode == 65, wrong.stderr


def test_ctrl_c_stores_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = Process("torch", tmp_path, "broken", "--epochs", "200")
    process.wait_for("epoch 1/")
    process.signal(signal.SIGINT)
    assert process.wait(60) == 130, process.said
    assert "stopped by Ctrl-C: a checkpoint of step" in process.said
    assert "--run-id broken" in process.said


def test_a_log_of_json_lines(tmp_path: Path) -> None:
    result = train("torch", tmp_path, "json", "--log-format", "json", ALEXNET_EPOCH="3")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert all({"time", "level", "run", "attempt", "epoch", "step", "event", "message"} <= set(line) for line in lines)
    (warning,) = [line["message"] for line in lines if line["level"] == "warning"]
    assert warning.startswith("the variable ALEXNET_EPOCH is not one of ours")
    events = {line["event"]: line for line in lines}
    assert events["step"]["step"] == events["step"]["steps"] == 90
    assert {"loss", "images_per_second", "seconds_left"} <= set(events["step"])
    assert (events["epoch"]["epoch"], events["finished"]["run"]) == (2, "json")
    assert events["epoch"]["test_accuracy"] == events["finished"]["test_accuracy"]
    wrong = train("torch", tmp_path, "wrong", "--log-format", "json", "--data", str(tmp_path))
    (line,) = [line for line in map(json.loads, wrong.stderr.splitlines()) if line["event"] == "error"]
    assert (line["exit_code"], line["level"]) == (wrong.returncode, "error")


def test_the_accounts_of_a_run(tmp_path: Path) -> None:
    result = train("torch", tmp_path, "accounts")
    assert result.returncode == 0, result.stderr
    found = summary(tmp_path, "accounts")
    assert {"start-up", "step", "evaluation", "checkpoint stall", "upload wait"} <= set(found["time"])
    assert 0 < found["goodput"] < 1
    assert found["flop_per_second"] > 0
    assert found["resources"]["peak_process_memory_bytes"] > 1e8
    assert "energy_joules" not in found["resources"], "there is no counter here: missing, not zero"
    assert [finding["title"] for finding in found["findings"]] == ["Start-up dominates this short run"]
    assert result.stderr.count("GPU: nothing to measure") <= 1
    rows = [json.loads(line) for path in (tmp_path / "accounts" / "attempts").glob("*/resources-*.jsonl") for line in path.open()]
    assert all(row["process_memory_bytes"] > 1e8 for row in rows)


def test_two_attempts_one_account(tmp_path: Path) -> None:
    """The end of the previous attempt is reported, and its time counts."""
    process = Process("torch", tmp_path, "two", "--epochs", "12")
    process.wait_for("epoch 3/")
    process.signal(signal.SIGKILL)
    process.wait()
    result = train("torch", tmp_path, "two", "--epochs", "12")
    assert result.returncode == 0, result.stderr
    assert "ended without a word: killed, or its node was lost" in result.stderr
    assert "continues from step" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_real_cifar10_for_one_epoch(engine: str, tmp_path: Path) -> None:
    """The default recipe, 224 pixels: half an hour on two idle cores."""
    maker = Path(__file__).parents[3] / "shared" / "bin" / "cifar10"
    if not maker.is_file():
        pytest.skip("needs ../shared/bin/cifar10, which unpacks real CIFAR-10")
    subprocess.run([str(maker), str(tmp_path / "data")], check=True, stdout=subprocess.DEVNULL)
    words = ["train", "--engine", engine, "--data", str(tmp_path / "data"), "--epochs", "1", "--output", str(tmp_path), "--run-id", "cifar"]
    result = subprocess.run([sys.executable, "-m", "job", *words], capture_output=True, text=True, check=False, env=environment())
    assert result.returncode == 0, result.stderr
    found = summary(tmp_path, "cifar")
    assert found["test_images"] == 10_000
    assert found["test_accuracy"] >= 0.42
    assert found["peak_host_memory_bytes"] <= 3e9


def test_a_reader_that_has_seen_enough() -> None:
    """`alexnet describe | head -1` is no failure."""
    process = subprocess.Popen(arguments("describe"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_help_lists_every_command() -> None:
    result = alexnet("--help")
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout, name


def test_a_copy_is_a_copy(trained: Path, tmp_path: Path) -> None:
    result = alexnet("pull", str(trained / "first"), str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert digest(model(tmp_path, "first")) == digest(model(trained, "first"))
