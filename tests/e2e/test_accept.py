"""`alexnet accept` as users run it: a process for each GPU, here a CPU, small; with faults of hardware planted in it."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from job.core import validation
from job.core.acceptance_records import Started, Steps, Verdict
from tests.support.commands import alexnet, arguments, environment

SMALL = ("--device", "cpu", "--threads", "1", "--set", "width=0.125", "--set", "image_size=64", "--set", "batch_size=8", "--steps", "20")
STEP, CHANNEL, LEAST = 2, 17, 8.2
"""step, channel and number: that channel of features.3 reaches 7.0 in the first step, and 9.3 in the second one"""
PLANTED = str(Path(__file__).parents[1] / "support" / "planted")


def accept(output: Path, *words: str, fault: dict[str, Any] | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return alexnet("accept", *SMALL, "--output", str(output), *words, **variables, **(planted(fault) if fault else {}))


def planted(fault: dict[str, Any]) -> dict[str, str]:
    """The environment in which it is."""
    return {"PYTHONPATH": os.pathsep.join([PLANTED, os.environ.get("PYTHONPATH", "")]), "PLANTED_FAULT": json.dumps(fault)}


def stored(output: Path, name: str) -> Verdict:
    """The newest."""
    newest = max((output / name).iterdir())
    return validation.parse(Verdict, (newest / "verdict.json").read_bytes())


@pytest.fixture(scope="module", params=["torch", "tensorflow"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(engine, folder) of a sound machine's verdict, `sound`."""
    output = tmp_path_factory.mktemp("accept")
    result = accept(output, "--engine", request.param, "--run-id", "sound", "--rounds", "2", JOB_COMPLETION_INDEX="3", ALEXNET_NODE="n1")
    assert result.returncode == 0, result.stderr
    assert "2 rounds of 20 steps, each with the same bits after every step" in result.stdout
    return request.param, output


def test_a_sound_machine_passes(sound: tuple[str, Path]) -> None:
    engine, output = sound
    (attempt,) = (output / "sound").iterdir()
    assert attempt.name.startswith("0001-")
    started = validation.parse(Started, (attempt / "started.json").read_bytes())
    steps = validation.parse(Steps, (attempt / "steps.json").read_bytes())
    found = stored(output, "sound")
    assert (found["index"], found["node"], found["engine"]) == (3, "n1", engine) == (started["index"], started["node"], started["engine"])
    assert [mode["mode"] for mode in found["modes"]] == ["bf16", "fp32"] == [mode["mode"] for mode in steps["modes"]]
    for mode, sums in zip(found["modes"], steps["modes"], strict=True):
        assert (mode["rounds"], mode["deviant_rounds"], mode["deviations"]) == (2, 0, [])
        assert [tensor["name"] for tensor in mode["tensors"]] == ["loss", *sums["names"]]
        assert {len(tensor["intervals"]) for tensor in mode["tensors"]} == {10}
        assert mode["operations"][0]["name"] == "inputs"
        assert mode["operations"][-1]["name"] == "gradients/features.0.weight"
        assert len(sums["sums"]) == 20
        assert 0 < mode["last_loss"] < 3
    assert found["bandwidth"]["device_bytes_per_second"] > 1e8
    assert found["memory"] == {"bytes": 1 << 26, "patterns": 5, "wrong_words": 0}
    assert found["group"]["threads"] == "1"
    looked = {one["check"].removeprefix("doctor: ") for one in found["evidence"]}
    assert {"memory", "cpus", "store", "put"} < looked
    assert not {check for check in looked if check.startswith("disk") or check == "throughput"}, "it makes no checkpoints"
    assert "TF32: this device has none." in found["not_tested"]
    assert len((attempt / "verdict.json").read_bytes()) < 256_000


@pytest.mark.parametrize("sound", ["torch", pytest.param("tensorflow", marks=pytest.mark.slow)], indirect=True)
def test_a_bit_that_flips_once_is_found(sound: tuple[str, Path]) -> None:
    """In the second round of the second precision: call 20 · 3 + 12 of a step, in the order bf16, fp32, bf16, fp32."""
    engine, output = sound
    fault = {"kind": "flip", "place": "gradient", "tensor": "features.3.weight", "bit": 20, "element": 99, "step": 72}
    result = accept(output, "--engine", engine, "--run-id", "flip", "--rounds", "3", fault=fault)
    assert result.returncode == 71, result.stderr
    found = stored(output, "flip")
    assert found["verdict"] == "fail"
    assert "round 2, step 12, backward, at gradients/features.3.weight" in found["evidence"][0]["what"]
    bf16, fp32 = found["modes"]
    assert bf16["deviations"] == []
    (deviation,) = fp32["deviations"]
    assert (deviation["round"], deviation["step"], deviation["again"], deviation["tensors"]) == (2, 12, False, 2)
    good = stored(output, "sound")
    assert [bf16["digest"], fp32["digest"]] == [mode["digest"] for mode in good["modes"]]  # of the two other rounds, in another process
    assert [bf16["state_sha256"], fp32["state_sha256"]] == [mode["state_sha256"] for mode in good["modes"]]
    assert (found["group"], found["work"]) == (good["group"], good["work"])


def test_a_stuck_bit_gives_another_digest_and_its_operation_is_named(sound: tuple[str, Path]) -> None:
    """The machine agrees with itself: only others show it."""
    engine, output = sound
    fault = {"kind": "stuck", "place": "forward", "tensor": "features.3", "bit": 2, "channel": 5}
    result = accept(output, "--engine", engine, "--run-id", "stuck", "--rounds", "1", fault=fault)
    assert result.returncode == 0, result.stderr
    for bad, good in zip(stored(output, "stuck")["modes"], stored(output, "sound")["modes"], strict=True):
        assert bad["digest"] != good["digest"]
        pairs = zip(bad["operations"], good["operations"], strict=True)
        assert next(a["name"] for a, b in pairs if a != b) == "activations/features.3"


@pytest.mark.slow
def test_the_operation_of_a_later_step_is_named_by_what_the_report_says_to_run(sound: tuple[str, Path]) -> None:
    """A circuit that fails on large numbers only, of which there is none before that step."""
    engine, output = sound
    fault = {"kind": "stuck", "place": "forward", "tensor": "features.3", "bit": 22, "channel": CHANNEL, "least": LEAST}
    result = accept(output, "--engine", engine, "--run-id", "late", "--rounds", "1", fault=fault)
    assert result.returncode == 0, result.stderr
    told = json.loads(alexnet("accept", "report", str(output), "--reference", f"{output}/sound", "--format", "json").stdout)
    (again,) = (each for each in told["retraces"] if each["gpu"] == "late")
    assert (again["right"], again["step"]) == ("sound", STEP)
    assert alexnet(*shlex.split(again["there"])[1:], **planted(fault)).returncode == 0
    assert alexnet(*shlex.split(again["on_the_right_one"])[1:]).returncode == 0
    done = alexnet(*shlex.split(again["then"])[1:])
    assert done.returncode == 71
    assert f"bf16 and fp32: other bytes than the reference right, first in step {STEP}, activations/features.3" in done.stdout


def test_a_process_that_breaks_is_a_bad_gpu(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sitecustomize.py").write_text(
        "import job.engines, os\njob.engines.open_engine = lambda *_, **__: os.kill(os.getpid(), 11)\n"
    )
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ.get("PYTHONPATH", "")])
    result = accept(tmp_path, "--engine", "torch", "--run-id", "broken", PYTHONPATH=path)
    assert result.returncode == 71, result.stderr
    found = stored(tmp_path, "broken")
    assert "ended with code -11" in found["evidence"][0]["what"]
    assert (found["modes"], found["environment"], found["reproducible"]) == ([], None, False)


def test_what_cannot_be_asked_for_is_no_verdict(tmp_path: Path) -> None:
    result = alexnet("accept", "--engine", "torch", "--output", str(tmp_path), "--run-id", "a/b", *SMALL)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert "cannot name a folder" in result.stderr
    result = alexnet("accept", "--engine", "torch", "--set", "batch_size=9999", "--device", "cpu")
    assert result.returncode == 2
    assert "batch_size = 9999: there are 1442 images" in result.stderr
    result = alexnet("accept", "--engine", "torch", "--trace", "6", "--steps", "5", "--device", "cpu")
    assert result.returncode == 2
    assert "--trace 6: a round has 5 steps" in result.stderr


def test_sigterm_ends_its_processes_and_leaves_no_verdict(tmp_path: Path) -> None:
    words = ("accept", "--engine", "torch", *SMALL, "--output", str(tmp_path), "--run-id", "stopped")
    process = subprocess.Popen(arguments(*words), stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stderr
    for line in process.stderr:
        if "round 2" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 74
    process.stderr.read()  # its end comes when the GPU's process is gone, too
    (attempt,) = (tmp_path / "stopped").iterdir()
    assert [path.name for path in attempt.iterdir()] == ["started.json"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "tensorflow"])
def test_a_hundred_sound_rounds_raise_no_alarm(engine: str, tmp_path: Path) -> None:
    result = accept(tmp_path, "--engine", engine, "--run-id", "long", "--rounds", "100")
    assert result.returncode == 0, result.stdout
    for mode in stored(tmp_path, "long")["modes"]:
        assert (mode["rounds"], mode["deviant_rounds"]) == (100, 0)
