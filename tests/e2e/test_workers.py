"""Several workers, the same bytes: through the real command, on one machine."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from job.workers.launcher import environments
from tests.support.commands import TINY, Process, alexnet, environment, train
from tests.support.workers import ENGINES, bytes_of, claim, worker_process

SHORT = ("--subset", "256", "--epochs", "1", "--checkpoint-steps", "4", "--shards", "4")
"""8 steps of 32 images"""


@pytest.fixture(scope="module", params=ENGINES)
def one_worker(request, tmp_path_factory):
    """(engine, folder) of the run `one`."""
    output = tmp_path_factory.mktemp(request.param)
    result = train(request.param, output, "one", *SHORT)
    assert result.returncode == 0, result.stderr
    return request.param, output


def test_two_workers_leave_the_bytes_of_one(one_worker):
    engine, output = one_worker
    result = train(engine, output, "two", *SHORT, "--workers", "2")
    assert result.returncode == 0, result.stderr
    assert bytes_of(output, "two") == bytes_of(output, "one")
    assert json.loads((output / "two" / "run.json").read_text())["shards"] == 4
    workers = claim(output, "two")["workers"]
    assert [worker["rank"] for worker in workers] == [0, 1]
    assert {worker["device"] for worker in workers} == {"cpu"}
    assert "workers" not in claim(output, "one")


def start_worker(engine, module, output, run, place, *more):
    """A process that is told its place by these variables."""
    words = ["--engine", engine, "--output", str(output), "--run-id", run, *TINY, *SHORT, *more]
    return subprocess.Popen([sys.executable, "-m", module, "train", *words], stderr=subprocess.PIPE, text=True, env=place)


def two_workers(module, output, run, *more):
    """Their exit codes, what they said, and the seconds that it took.  `more`: words of each."""
    begun = time.monotonic()
    places = environments("torch", 2, environment())
    workers = [start_worker("torch", module, output, run, places[rank], *more[rank]) for rank in range(2)]
    said = [each.communicate(timeout=200)[1] for each in workers]
    return [each.returncode for each in workers], said, time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_workers_that_do_not_meet_say_so(engine, tmp_path):
    """Worker 0 first, which puts run.json."""
    for rank, place in enumerate(environments(engine, 2, environment())):
        lone = start_worker(engine, "tests.support.impatient", tmp_path, "lonely", place)
        said = lone.communicate(timeout=60)[1]
        assert lone.returncode == 75, said
        assert f"worker {rank} of 2 did not meet the others at 127.0.0.1:" in said
        assert "within 8 s" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_waits_for_the_others_hears_a_signal(engine, tmp_path):
    lone = start_worker(engine, "job", tmp_path, "lonely", environments(engine, 2, environment())[0])
    lines = iter(lone.stderr.readline, "")
    assert any("still waiting for the other workers" in line for line in lines)
    begun = time.monotonic()
    lone.send_signal(signal.SIGTERM)
    assert lone.wait(30) == 74
    assert time.monotonic() - begun < 10
    assert "nothing was stored" in lone.stderr.read()


def test_a_worker_with_another_seed_is_named(tmp_path):
    """Each with its own code, within seconds."""
    codes, said, seconds = two_workers("job", tmp_path, "odd", (), ("--seed", "1"))
    assert codes == [75, 78], said
    assert seconds < 60
    assert "worker 1 on" in said[0]
    assert "seed: 0 stored, 1 asked for" in said[0]


@pytest.mark.slow
def test_a_worker_that_computes_wrongly_is_named(tmp_path):
    codes, said, _ = two_workers("tests.support.flipping", tmp_path, "flipped", (), ())
    assert codes == [71, 71], said
    assert all("after step 8 worker 1 (" in text and "has other weights than the others" in text for text in said)
    checkpoints = [path.name[:13] for path in (tmp_path / "flipped" / "checkpoints").iterdir()]
    assert checkpoints == ["step-00000004"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--workers", "3"), "such as 2 or 4"),
        (("--shards", "6"), "such as 4 or 8"),
        (("--workers", "2", "--batch-size", "33"), "--batch-size 34"),
        (("--workers", "4", "--shards", "2"), "--workers 2"),
        (("--workers", "2", "--gpus", "2"), "Give one of them"),
        (("--gpus", "some"), "expected a number from 1, or all"),
    ],
)
def test_what_cannot_be_shared_ends_with_2(tmp_path, words, named):
    result = alexnet("train", "--engine", "torch", "--data", "digits", "--recipe", "digits", "--output", str(tmp_path), *words)
    assert result.returncode == 2, result.stderr
    assert named in result.stderr
    assert not list(tmp_path.iterdir())


LONG = ("--epochs", "3", "--checkpoint-steps", "10", "--shards", "4", "--log-steps", "1")
"""135 steps"""


@pytest.fixture(scope="module", params=ENGINES)
def undisturbed(request, tmp_path_factory):
    output = tmp_path_factory.mktemp(f"{request.param}-undisturbed")
    result = train(request.param, output, "whole", *LONG)
    assert result.returncode == 0, result.stderr
    return request.param, output


HARM = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP, "terminated": signal.SIGTERM}
CODES = {"killed": 137, "frozen": 71, "terminated": 143}
SECONDS = {"killed": 40, "frozen": 60, "terminated": 40}
"""within which all workers have ended; the timeout is 10"""


@pytest.mark.slow
@pytest.mark.parametrize("time_of_it", range(3))
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("harm", HARM)
def test_a_disturbed_run_ends_with_the_same_bytes(undisturbed, harm, rank, time_of_it):
    """On fewer workers, on as many, and on more."""
    engine, output = undisturbed
    run, workers = f"{harm}-{rank}-{time_of_it}", (1, 2, 4)[time_of_it]
    process = Process(engine, output, run, *LONG, "--workers", "2", "--worker-timeout", "10")
    step = random.randrange(12, 100)
    process.wait_for(f"step {step}/")
    worker_process(process.process.pid, rank).send_signal(HARM[harm])
    begun = time.monotonic()
    assert process.wait() == CODES[harm], process.said
    seconds = time.monotonic() - begun
    print(f"{engine}: worker {rank} {harm} at step {step}: all ended after {seconds:.1f} s")
    assert seconds < SECONDS[harm]
    if harm == "terminated":
        assert "stopped by SIGTERM: a checkpoint of step" in process.said
    else:
        assert f"worker {rank} of 2 does not answer any more" in process.said
    result = train(engine, output, run, *LONG, "--workers", str(workers))
    assert result.returncode == 0, result.stderr
    assert "continues from step" in result.stderr
    assert bytes_of(output, run) == bytes_of(output, "whole")
