"""The command as users run it: real processes, real digits, small networks."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import TINY, alexnet, arguments, digest, environment, losses, model, summary, train

ENGINES = ("torch", "tensorflow")
GROWING = ("--image-size", "96", "--set", "progressive_resizing=64:0.5", "--set", "cutout=8", "--set", "ema_decay=0.9")
"""the second of two epochs has larger images, and the model is not what is trained, but its average"""
STEPS = 45
"""of an epoch"""


@pytest.fixture(scope="module", params=ENGINES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(engine, folder) of an undisturbed run called `whole`."""
    output = tmp_path_factory.mktemp(request.param)
    result = train(request.param, output, "whole", *GROWING)
    assert result.returncode == 0, result.stderr
    return request.param, output


def start(engine: str, output: Path, run: str, *words: str) -> subprocess.Popen[str]:
    command = arguments("train", "--engine", engine, "--output", str(output), "--run-id", run, *TINY, *GROWING, *words)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())


def wait_for_checkpoint(process: subprocess.Popen[str], output: Path, run: str, step: int = 0) -> None:
    """Of `step`, or of a later one."""
    deadline = time.monotonic() + 120
    while max((path.parent.name for path in (output / run / "checkpoints").glob("*/MANIFEST.json")), default="") < f"step-{step:08d}":
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_leaves_what_the_design_promises(whole: tuple[str, Path]) -> None:
    _, output = whole
    found = summary(output, "whole")
    run = output / "whole"
    assert {"run.json", "summary.json", "attempts", "checkpoints", "final"} == {p.name for p in run.iterdir()}
    final = run / "final" / found["attempt"]
    assert {p.relative_to(final).as_posix() for p in final.rglob("*") if p.is_file()} == set(found["final"])
    for name, entry in found["final"].items():
        assert digest(final / name) == entry["sha256"]
    assert len(list((run / "checkpoints").iterdir())) == 2
    with np.load(final / "predictions.npz", allow_pickle=False) as predictions:
        hits = (predictions["logits"].argmax(1) == predictions["labels"]).mean()
    assert found["test_accuracy"] == pytest.approx(hits)
    assert found["test_images"] == 355
    drawn = {p.name for p in (final / "plots").iterdir()}
    assert drawn - {"resources.png"} == {"accuracy.png", "loss.png", "confusion.png", "mistakes.png"}  # that one needs two seconds


def test_a_finished_run_says_so(whole: tuple[str, Path]) -> None:
    engine, output = whole
    before = (output / "whole" / "summary.json").read_bytes()
    result = train(engine, output, "whole", *GROWING)
    assert result.returncode == 0
    assert "is finished" in result.stderr
    assert (output / "whole" / "summary.json").read_bytes() == before


def test_another_configuration_is_refused(whole: tuple[str, Path], tmp_path: Path) -> None:
    engine, output = whole
    (output / "whole" / "summary.json").rename(tmp_path / "summary.json")
    try:
        result = train(engine, output, "whole", "--image-size", "96", "--seed", "7", "--set", "momentum=0.5")
    finally:
        (tmp_path / "summary.json").rename(output / "whole" / "summary.json")
    assert result.returncode == 78
    assert "momentum: 0.9 stored, 0.5 asked for" in result.stderr
    assert "seed: 0 stored, 7 asked for" in result.stderr
    assert "progressive_resizing: '64:0.5' stored, 'none' asked for" in result.stderr


@pytest.mark.parametrize("step", [STEPS + 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, STEPS))])
def test_a_killed_run_ends_with_the_same_bytes(whole: tuple[str, Path], tmp_path: Path, step: int) -> None:
    """Killed after the change of the image size, some time before it, and at it."""
    engine, output = whole
    process = start(engine, tmp_path, "killed", "--checkpoint-steps", "7")
    wait_for_checkpoint(process, tmp_path, "killed", step)
    time.sleep(random.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result = train(engine, tmp_path, "killed", *GROWING, "--checkpoint-steps", "7")
    assert result.returncode == 0, result.stderr
    assert digest(model(tmp_path, "killed")) == digest(model(output, "whole"))
    assert losses(tmp_path, "killed") == losses(output, "whole")


def test_sigterm_stores_a_checkpoint_and_the_run_continues(whole: tuple[str, Path], tmp_path: Path) -> None:
    engine, output = whole
    process = start(engine, tmp_path, "stopped", "--checkpoint-steps", "5")
    wait_for_checkpoint(process, tmp_path, "stopped")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "is stored" in said
    result = train(engine, tmp_path, "stopped", *GROWING)
    assert "continues from step" in result.stderr
    assert digest(model(tmp_path, "stopped")) == digest(model(output, "whole"))
    assert losses(tmp_path, "stopped") == losses(output, "whole")


def test_a_damaged_checkpoint_is_left_out(whole: tuple[str, Path], tmp_path: Path) -> None:
    engine, output = whole
    process = start(engine, tmp_path, "bent", "--checkpoint-steps", "10")
    while len(list((tmp_path / "bent" / "checkpoints").glob("*/MANIFEST.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    newest = max((tmp_path / "bent" / "checkpoints").glob("*/MANIFEST.json")).parent / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    result = train(engine, tmp_path, "bent", *GROWING)
    assert result.returncode == 0, result.stderr
    assert "is left out: model.safetensors has SHA-256" in result.stderr
    assert digest(model(tmp_path, "bent")) == digest(model(output, "whole"))


@pytest.mark.parametrize(("first", "second"), [("torch", "tensorflow"), ("tensorflow", "torch")])
def test_the_other_engine_continues(first: str, second: str, tmp_path: Path) -> None:
    process = start(first, tmp_path, "both", "--checkpoint-steps", "5")
    wait_for_checkpoint(process, tmp_path, "both")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    result = train(second, tmp_path, "both", *GROWING)
    assert (result.returncode, f"last trained by {first}" in result.stderr) == (78, True), result.stderr
    result = train(second, tmp_path, "both", *GROWING, "--continue-in-other-engine")
    assert result.returncode == 0, result.stderr
    assert f"written by {first}" in result.stderr
    assert [c["engine"] for c in summary(tmp_path, "both")["contributions"]] == [first, second]


def test_a_checkpoint_loads_strictly_into_torchvision(tmp_path: Path) -> None:
    words = ("--width", "1", "--epochs", "1", "--subset", "64", "--batch-size", "32", "--set", "optimizer=sgd")
    result = alexnet(
        "train", "--engine", "tensorflow", "--data", "digits", "--recipe", "digits", "--output", str(tmp_path), "--run-id", "wide", *words
    )
    assert result.returncode == 0, result.stderr
    script = (
        "import sys, torchvision; from safetensors.torch import load_file\n"
        "print(torchvision.models.alexnet(num_classes=10).load_state_dict(load_file(sys.argv[1]), strict=True))"
    )
    loaded = subprocess.run([sys.executable, "-c", script, str(model(tmp_path, "wide"))], capture_output=True, text=True, check=False)
    assert "All keys matched" in loaded.stdout, loaded.stderr


@pytest.mark.parametrize(("words", "seen"), [((), "the loss is"), (("--subset", "32", "--batch-size", "32"), "step 1: the test loss is")])
def test_divergence_stops_the_run(words: tuple[str, ...], seen: str, whole: tuple[str, Path], tmp_path: Path) -> None:
    """Seen at the step after, or, where it is the epoch's last one, on the test set."""
    engine, _ = whole
    result = train(engine, tmp_path, "hot", "--set", "learning_rate=1e30", "--set", "clip_norm=0", "--set", "warmup=0", *words)
    assert result.returncode == 76, result.stderr
    assert seen in result.stderr
    assert "diverged" in result.stderr
    assert "Traceback" not in result.stderr
