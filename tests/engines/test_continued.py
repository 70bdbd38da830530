"""200 steps in torch, then 200 in TensorFlow, are the run that 400 steps in torch are: through the real command, on real digits."""

import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from job import engines
from tests.support.commands import alexnet, arguments, environment, losses, summary

CUT, STEPS = 200, 400
FOUR_HUNDRED = ("--data", "digits", "--recipe", "digits", "--batch-size", "36", "--epochs", "10", "--threads", "1", "--log-steps", "1")

pytestmark = pytest.mark.skipif(engines.installed() != engines.ENGINES, reason="needs both torch and tensorflow")


def command(engine, output, run, *words):
    return ("train", "--engine", engine, "--output", str(output), "--run-id", run, *FOUR_HUNDRED, *words)


def stop_at_the_cut(output, run, *words):
    """A torch run that was stopped when its checkpoint of step CUT was there, and whose later ones are lost."""
    process = subprocess.Popen(arguments(*command("torch", output, run, *words)), stderr=subprocess.PIPE, text=True, env=environment())
    checkpoints = output / run / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob(f"step-{CUT:08d}-*/MANIFEST.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    for folder in checkpoints.iterdir():
        if folder.name > f"step-{CUT:08d}-9":
            shutil.rmtree(folder)
    assert max(folder.name for folder in checkpoints.iterdir()).startswith(f"step-{CUT:08d}-")


def both(output, *words):
    """The runs `whole`, by torch, and `mixed`, by both engines."""
    result = alexnet(*command("torch", output, "whole", *words))
    assert result.returncode == 0, result.stderr
    stop_at_the_cut(output, "mixed", *words)
    result = alexnet(*command("tensorflow", output, "mixed", *words, "--continue-in-other-engine"))
    assert result.returncode == 0, result.stderr
    assert f"continues from step {CUT} of {STEPS}" in result.stderr
    assert summary(output, "whole")["engine"] == "torch"
    assert summary(output, "mixed")["engine"] == "tensorflow"


def predictions(output, run):
    with np.load(output / run / "final" / summary(output, run)["attempt"] / "predictions.npz", allow_pickle=False) as found:
        return found["predictions"]


@pytest.mark.slow
def test_in_float64_the_losses_agree(tmp_path):
    both(tmp_path, "--precision", "fp64", "--width", "0.0625")
    whole, mixed = (losses(tmp_path, run) for run in ("whole", "mixed"))
    assert [step for step, _ in whole] == [step for step, _ in mixed] == list(range(1, STEPS + 1))
    assert whole[:CUT] == mixed[:CUT]
    apart = [abs(a - b) for (_, a), (_, b) in zip(whole, mixed, strict=True)]
    print(f"largest difference of the loss: {max(apart):.1e}")
    assert 0 < max(apart) <= 1e-10
    np.testing.assert_array_equal(predictions(tmp_path, "whole"), predictions(tmp_path, "mixed"))


@pytest.mark.slow
def test_in_float32_the_predictions_agree(tmp_path):
    both(tmp_path, "--precision", "fp32", "--width", "0.25")
    accuracies = [summary(tmp_path, run)["test_accuracy"] for run in ("whole", "mixed")]
    agreement = (predictions(tmp_path, "whole") == predictions(tmp_path, "mixed")).mean()
    print(f"test accuracy {accuracies[0]:.2%} and {accuracies[1]:.2%}, agreement {agreement:.2%}")
    assert min(accuracies) > 0.97
    assert agreement >= 0.97
