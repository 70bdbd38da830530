"""What a real training says and stores about its machine: in groups that the test makes, in a container, with scripted GPUs."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from job.telemetry.cgroup import _mounts, _paths  # where this machine has its hierarchies
from tests.support import commands, docker

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


def rows(output: Path, run: str) -> list[dict[str, Any]]:
    """Oldest first."""
    segments = sorted((output / run / "attempts").glob("*/resources-*.jsonl"))
    return [json.loads(line) for segment in segments for line in segment.read_text().splitlines()]


def titles(summary: dict[str, Any]) -> list[str]:
    return [finding["title"] for finding in summary["findings"]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """(output, what was said) of a training without limits."""
    output = tmp_path_factory.mktemp("plain")
    done = commands.train("torch", output, "a", "--spool", str(output))
    assert done.returncode == 0, done.stderr
    return output, done.stderr


def test_without_a_gpu_one_line_and_no_trace(plain):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    _, said = plain
    assert said.count("GPU: nothing to measure (NVML Shared Library Not Found)") == 1
    assert "Traceback" not in said


def test_the_machine_is_told_at_the_start(plain):
    _, said = plain
    assert said.count(" machine: ") == 1


def test_samples_are_stored_each_second(plain):
    output, _ = plain
    found = rows(output, "a")
    assert found
    assert all(0.5 < row["interval_seconds"] < 5 for row in found)
    assert max(row["process_memory_bytes"] for row in found) > 1e8
    assert found[-1]["step"] > 0
    assert {"epoch", "spool_bytes", "host_memory_used_bytes", "process_cpu_cores"} <= set(found[-1])


def test_the_summary_says_where_the_time_went(plain):
    output, said = plain
    summary = commands.summary(output, "a")
    time = summary["time"]
    assert {"start-up", "data", "step", "evaluation", "checkpoint stall", "upload wait"} <= set(time)
    assert time["step"] > 0
    assert time["start-up"] > 0
    assert time["evaluation"] > 0
    assert 0 < summary["goodput"] < 1
    last = rows(output, "a")[-1]
    assert sum(time.values()) >= last["process_seconds"] - 1.5, "every second is booked"
    assert summary["resources"]["peak_process_memory_bytes"] > 1e8
    assert "goodput" in said


def test_a_killed_attempt_is_explained_by_its_last_sample(tmp_path):
    """The samples are put, lest the test needs a machine at its limit: it is their reading by a real process that counts."""
    first = commands.Process("torch", tmp_path, "a", "--epochs", "50")
    first.wait_for("step 10/")
    first.signal(signal.SIGKILL)
    first.wait()
    (attempt,) = (tmp_path / "a" / "attempts").iterdir()
    row = {"time": 0.0, "interval_seconds": 1.0, "container_memory_bytes": 3_100_000_000, "container_memory_limit_bytes": 3_200_000_000}
    (attempt / "resources-0001.jsonl").write_text(json.dumps(row) + "\n")
    second = commands.Process("torch", tmp_path, "a", "--epochs", "50")
    try:
        second.wait_for("probably out of memory: in its last sample 3.10 of the container's 3.20 GB were in use")
    finally:
        second.signal(signal.SIGKILL)
        second.wait()


PLAYED = """
import sys
from tests.support.fake_nvml import Card, Nvml
known = {"memory": (5_000_000_000, 80_000_000_000), "utilization": (20, 5), "power": 200_000, "temperature": 60, "clocks": (1200, 2600)}
later = {0.5 * n: {"energy": 100_000 * n} for n in range(1, 400)}
cards = [
    Card(uuid="GPU-a", energy=0, reasons=4, later=later, **known),
    Card(uuid="GPU-b", energy=0, reasons=0, later={2.0: {"lost": True}}, **known),
]
sys.modules[__name__] = Nvml(cards)
"""


def test_two_gpus_one_lost_in_mid_run_one_at_its_power_limit(tmp_path):
    """A module in the place of nvidia-ml-py; all else is the real command."""
    (tmp_path / "pynvml.py").write_text(PLAYED)
    path = f"{tmp_path}:{ROOT}"
    done = commands.train("torch", tmp_path, "a", "--epochs", "30", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("GPU 1 (NVIDIA Example) is lost: GPU is lost") == 1
    found = rows(tmp_path, "a")
    known = [[gpu["index"] for gpu in row.get("gpus", ())] for row in found]
    assert [0, 1] in known
    assert known[-1] == [0]
    summary = commands.summary(tmp_path, "a")
    first, second = summary["resources"]["gpus"]
    assert first["energy_joules"] > 0
    assert second["lost"]
    assert "energy_joules" not in summary["resources"], "the sum is not known"
    assert summary["resources"]["peak_gpu_memory_bytes"] == 5_000_000_000
    assert "The GPU's power is limited" in titles(summary)
    assert "The GPU waits for the host" in titles(summary)
    assert "The GPU's power is limited" in done.stderr


@pytest.fixture(params=[3 * GIB], ids=["3 GiB"])
def group(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The command that runs another one in groups of its own: 0.6 CPUs, and the parameter's memory."""
    made: list[Path] = []
    memory = str(request.param)
    try:
        # with most of the shares, lest busy neighbours take so much that the quota is never reached
        shares = {"cpu.shares": "100000"}, {"cpu.weight": "10000"}
        quota = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "60000"}, {"cpu.max": "60000 100000"}
        made += [_made("cpu", shares[0] | quota[0], shares[1] | quota[1])]
        made += [_made("memory", {"memory.limit_in_bytes": memory}, {"memory.max": memory})]
    except OSError as error:
        for folder in made:
            folder.rmdir()
        pytest.skip(f"no control group can be made here ({error})")
    join = "; ".join(f"echo $$ > {folder / 'cgroup.procs'}" for folder in dict.fromkeys(made))
    yield ["sh", "-c", f'{join}; exec "$@"', "sh"]
    for folder in dict.fromkeys(made):
        folder.rmdir()


def _made(controller: str, version_1: dict[str, str], version_2: dict[str, str]) -> Path:
    """A group below the one that this process is in."""
    mounts, paths = _mounts(Path("/proc/self"), Path("/")), _paths(Path("/proc/self"))
    name = controller if controller in mounts else ""
    if name not in mounts:
        raise OSError(f"no hierarchy has {controller}")
    mount, base = mounts[name]
    folder = mount / paths[name].removeprefix(base.rstrip("/")).lstrip("/") / f"alexnet-test-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    try:
        for file, value in (version_1 if name else version_2).items():
            (folder / file).write_text(value)
    except OSError:
        folder.rmdir()
        raise
    return folder


def test_in_a_group_the_log_shows_its_limits_and_throttling_is_noticed(group, tmp_path):
    command = commands.arguments("train", "--engine", "torch", "--output", str(tmp_path), "--run-id", "a", *commands.TINY)
    command += ["--epochs", "4", "--threads", "2"]
    done = subprocess.run([*group, *command], capture_output=True, text=True, check=False, timeout=300, env=commands.environment())
    assert done.returncode == 0, done.stderr
    assert "machine: the container may use 0.6 CPUs and 3.22 GB of memory" in done.stderr
    found = rows(tmp_path, "a")
    assert {row["container_cpu_limit_cores"] for row in found} == {0.6}
    assert {row["container_memory_limit_bytes"] for row in found} == {3 * GIB}
    assert max(row["container_memory_bytes"] for row in found) < 3 * GIB
    assert max(row["container_throttled_seconds_per_second"] for row in found) > 0.1
    summary = commands.summary(tmp_path, "a")
    assert "The CPU quota holds the process back" in titles(summary)
    assert summary["resources"]["container"]["cpus"] == 0.6
    assert summary["resources"]["container_throttled_seconds"] > 1


@pytest.mark.parametrize("group", [GIB], ids=["1 GiB"], indirect=True)
def test_the_doctor_in_a_group_with_too_little_memory(group):
    command = [*group, *commands.arguments("doctor", "--engine", "torch", "--json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=commands.environment())
    assert done.returncode == 78, done.stdout + done.stderr
    lines = {line["check"]: line for line in json.loads(done.stdout)["lines"]}
    assert lines["memory"]["level"] == "fail"
    assert "of the container's limit of 1.07 GB" in lines["memory"]["reason"]
    assert (lines["cpus"]["level"], "a quota of 0.6" in lines["cpus"]["reason"]) == ("warn", True)


IMAGES = ("alexnet-torch", "alexnet-tf")


@pytest.fixture(scope="module")
def image() -> str:
    if shutil.which(docker.client()) is None:
        pytest.skip("there is no docker here")
    listed = docker.docker("images", "--format", "{{.Repository}}:{{.Tag}}", check=False)
    if listed.returncode:
        pytest.skip("no Docker engine answers")
    built = [name for name in listed.stdout.split() if name.rsplit("/", 1)[-1].startswith(IMAGES)]
    if not built:
        pytest.skip("no image is built here; `make build` does it")
    return built[0]


def test_in_a_container_the_log_shows_its_limits(image, tmp_path):
    """With the sources of this tree in the image's place for them."""
    limits = ("--rm", "--memory", "3g", "--cpus", "1.5", "--network", "none", "--user", str(os.getuid()))
    mounts = ("-v", f"{ROOT}:/source:ro", "-v", f"{tmp_path}:/results", "-e", "PYTHONPATH=/source", "-e", "HOME=/tmp")
    words = ("train", "--output", "/results", "--run-id", "a", *commands.TINY, "--epochs", "1")
    done = docker.docker("run", *limits, *mounts, image, *words, check=False)
    assert done.returncode == 0, done.stderr
    assert "machine: the container may use 1.5 CPUs and 3.22 GB of memory" in done.stderr
    found = rows(tmp_path, "a")
    assert {(row["container_cpu_limit_cores"], row["container_memory_limit_bytes"]) for row in found} == {(1.5, 3 * GIB)}
    assert max(row["container_memory_bytes"] for row in found) < min(row["host_memory_total_bytes"] for row in found)
