"""Results in a bucket whatever happens to the store, the disk and the process.  The long forms are marked slow."""

import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import LONG, alexnet, begin, train
from tests.support.proxy import Delay, Error, Proxy
from tests.support.servers import Server, weed
from tests.support.stored import digest, folder_objects, losses, objects, verified


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[tuple[int, float]]]]:
    """engine → (digest of the model, losses) of an undisturbed LONG run in a folder, made when first asked for."""

    class Lazily(dict[str, tuple[str, list[tuple[int, float]]]]):
        def __missing__(self, engine: str) -> tuple[str, list[tuple[int, float]]]:
            output = tmp_path_factory.mktemp(engine)
            result = train(engine, output, "alone", *LONG)
            assert result.returncode == 0, result.stderr
            self[engine] = facts(folder_objects(output), "alone")
            return self[engine]

    return Lazily()


def facts(found: dict[str, bytes], run: str) -> tuple[str, list[tuple[int, float]]]:
    summary = verified(found, run)
    return digest(found[f"{run}/{summary['model']}"]), losses(found, run)


@pytest.mark.parametrize(
    ("engine", "kills"), [("torch", 2), *(pytest.param(e, 20, marks=pytest.mark.slow) for e in ("torch", "tensorflow"))]
)
def test_kills_at_random_times(engine: str, kills: int, server: Server, alone, tmp_path: Path) -> None:
    """Each restart begins with an empty disk."""
    run, done = f"killed-{engine}-{kills}", 0
    while done < kills:
        process = begin(engine, server, run, tmp_path / str(done))
        process.wait_for("results in s3://results")
        if random.random() < 0.8:
            process.wait_for("step ")
        time.sleep(random.uniform(0, 6 / kills))
        assert process.process.poll() is None, f"the run ended after {done} kills: {process.said}"
        process.signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(tmp_path / str(done))
        done += 1
    last = begin(engine, server, run, tmp_path / "last")
    assert last.wait() == 0, last.said
    assert facts(objects(server), run) == alone[engine]
    assert not list((tmp_path / "last").glob(".tmp-spool*")), "the spool was not cleared away"


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_the_server_is_away_for_a_while(seconds: int, alone, tmp_path: Path) -> None:
    with weed() as server:
        server.make_bucket("results")
        process = begin("torch", server, "away", tmp_path / "t", "--epochs", str(20 + 5 * seconds), "--checkpoint-steps", "0")
        process.wait_for("first checkpoint")
        server.kill()
        process.wait_for("trying again and again")
        before = process.step
        time.sleep(seconds)
        assert process.process.poll() is None, process.said
        assert process.step > before + 50, "training stopped with the server"
        server.restart()
        assert process.wait(600) == 0, process.said
        assert "uploads go on" in process.said
        verified(objects(server), "away")


def test_the_server_is_gone_for_good(alone, tmp_path: Path) -> None:
    with weed() as server:
        server.make_bucket("results")
        process = begin("torch", server, "gone", tmp_path / "t", "--flush-timeout", "3", "--spool", str(tmp_path))
        process.wait_for("first checkpoint")
        server.kill()
        assert process.wait() == 74, process.said
    kept = next(tmp_path.glob("alexnet-kept-gone-*"))
    message = " ".join(process.lines[-1].split())
    assert str(kept) in message
    for key in ("gone/summary.json", "/predictions.npz", "/model.safetensors", "/MANIFEST.json"):
        assert key in message, f"{key} is not named as missing"
    with weed() as other:
        other.make_bucket("results")
        for _ in range(2):  # idempotent
            result = alexnet("sync", str(kept), "s3://results", **other.environment)
            assert result.returncode == 0, result.stderr
        assert facts(objects(other), "gone") == alone["torch"]
        again = train("torch", "s3://results", "gone", *LONG, **other.environment)
        assert "is finished" in again.stderr


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 6))])
def test_a_bad_network(seed: int, server: Server, alone, tmp_path: Path) -> None:
    with Proxy(server, seed=seed, errors=0.1, resets=0.05, delays=(0.05, 1.0), truncations=0.02, lost_replies=0.02) as proxy:
        process = begin("torch", proxy, f"bad-{seed}", tmp_path / "t", "--checkpoint-steps", "0")
        assert process.wait(500) == 0, process.said
        assert {"Error", "Delay"} <= set(proxy.counts), proxy.counts
    found = objects(server)
    assert facts(found, f"bad-{seed}") == alone["torch"]
    assert len([key for key in found if key.startswith(f"bad-{seed}/final/") and key.endswith("predictions.npz")]) == 1


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_sigterm_while_an_upload_is_under_way(times: int, server: Server, alone, tmp_path: Path) -> None:
    """Every part of an upload takes a while, so that the signal finds one on its way; the very step it comes in is stored."""

    def slow_writes(request):
        return Delay(seconds=0.3) if request.method in ("PUT", "POST") and "/checkpoints/" in request.path else None

    for number in range(times):
        run = f"stopped-{times}-{number}"
        with Proxy(server, decide=slow_writes) as proxy:
            process = begin("torch", proxy, run, tmp_path / f"{run}-a")
            process.wait_for("step 10/")
            while not any("/checkpoints/" in request.path and request.method == "PUT" for request in list(proxy.requests)):
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.8))
            process.signal(signal.SIGTERM)
            assert process.wait(60) == 143, process.said
        step = int(process.said.rpartition("a checkpoint of step ")[2].split()[0])
        found = objects(server)
        newest = max(key for key in found if key.startswith(f"{run}/checkpoints/") and key.endswith("MANIFEST.json"))
        assert f"step-{step:08d}-" in newest
        assert step >= process.step, "the step of the signal is not the one that is stored"
        last = begin("torch", server, run, tmp_path / f"{run}-b")
        assert last.wait() == 0, last.said
        assert f"continues from step {step} " in last.said
        assert facts(objects(server), run) == alone["torch"]


def test_an_upload_that_hangs_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    """The store takes a connection and never answers: the process ends within its grace period all the same."""

    def hang(request):
        return Delay(seconds=300) if request.method in ("PUT", "POST") and "/checkpoints/" in request.path else None

    with Proxy(server, decide=hang) as proxy:
        process = begin("torch", proxy, "hanging", tmp_path / "t", "--grace", "6")
        process.wait_for("epoch 1/")
        begun = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait(60) == 74, process.said
        assert time.monotonic() - begun < 12


def test_sigterm_before_any_progress(server: Server, tmp_path: Path) -> None:
    process = begin("torch", server, "early", tmp_path / "t")
    while not process.handles(signal.SIGTERM):  # from its first line on, even before it has read its options
        time.sleep(0.001)
    process.signal(signal.SIGTERM)
    assert process.wait(60) == 74, process.said
    assert "Traceback" not in process.said


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_two_attempts_on_one_run(times: int, server: Server, alone, tmp_path: Path) -> None:
    for number in range(times):
        run = f"both-{times}-{number}"
        first = begin("torch", server, run, tmp_path / f"{run}-a")
        first.wait_for("results in")
        time.sleep(random.uniform(0, 3))
        second = begin("torch", server, run, tmp_path / f"{run}-b")
        for process in random.choices([first, second], k=2):
            time.sleep(random.uniform(0, 3))
            if process.process.poll() is None:
                process.signal(signal.SIGSTOP)
                time.sleep(random.uniform(0, 3))
                process.signal(signal.SIGCONT)
        codes = first.wait(), second.wait()
        assert codes[0] in (0, 77), first.said
        assert codes[1] in (0, 77), second.said
        assert 0 in codes
        found = objects(server)
        assert facts(found, run) == alone["torch"], (first.said, second.said)
        assert len([key for key in found if key == f"{run}/summary.json"]) == 1


def test_stopped_while_the_server_is_away(alone, tmp_path: Path) -> None:
    """What it had trained meanwhile is kept, and `alexnet sync` brings it: the run goes on from its last step."""
    with weed() as server:
        server.make_bucket("results")
        process = begin("torch", server, "away", tmp_path / "t", "--grace", "8", "--spool", str(tmp_path))
        process.wait_for("first checkpoint")
        server.kill()
        process.wait_for("trying again and again")
        before = process.step
        while process.step < before + 30:
            time.sleep(0.01)
        process.signal(signal.SIGTERM)
        assert process.wait(60) == 143, process.said
        kept = next(tmp_path.glob("alexnet-kept-away-*"))
        assert str(kept) in process.said
        server.restart()
        stored = int(process.said.rpartition("a checkpoint of step ")[2].split()[0])
        assert alexnet("sync", str(kept), "s3://results", **server.environment).returncode == 0
        last = begin("torch", server, "away", tmp_path / "u")
        assert last.wait() == 0, last.said
        assert int(last.said.partition("continues from step ")[2].split()[0]) > max(stored, before)
        assert facts(objects(server), "away") == alone["torch"]


def test_what_waits_is_delivered_before_a_divergence_ends_the_run(server: Server, tmp_path: Path) -> None:
    """Its message promises the last checkpoint before it, and nobody will make that one again."""

    def slow_writes(request):
        return Delay(seconds=0.3) if request.method in ("PUT", "POST") and "/checkpoints/" in request.path else None

    with Proxy(server, decide=slow_writes) as proxy:
        words = ("--checkpoint-steps", "1", "--set", "learning_rate=10000", "--set", "warmup=1", "--set", "clip_norm=0")
        process = begin("torch", proxy, "diverges", tmp_path / "t", *words)
        assert process.wait(120) == 76, process.said
    step = int(re.search(r"step (\d+): the loss is", process.said)[1])
    assert "has diverged" in process.said
    names = {key.split("/")[2] for key in objects(server) if key.startswith("diverges/checkpoints/") and key.endswith("MANIFEST.json")}
    assert max(int(name.split("-")[1]) for name in names) == step - 1
    assert "Not stored" not in process.said


def test_an_impatient_ctrl_c_loses_nothing(server: Server, tmp_path: Path) -> None:
    """While a diverged run waits for its store: the wait ends, and what waited is kept."""

    def hang(request):
        return Delay(seconds=300) if request.method in ("PUT", "POST") and "/checkpoints/" in request.path else None

    with Proxy(server, decide=hang) as proxy:
        words = ("--checkpoint-steps", "1", "--set", "learning_rate=10000", "--set", "warmup=1", "--set", "clip_norm=0")
        process = begin("torch", proxy, "impatient", tmp_path / "t", *words, "--spool", str(tmp_path))
        process.wait_for("First the store gets what waits")
        for _ in range(2):
            process.signal(signal.SIGINT)
            time.sleep(0.5)
        assert process.wait(20) == 76, process.said
    kept = next(tmp_path.glob("alexnet-kept-impatient-*"))
    assert str(kept) in process.said
    assert list(kept.glob("impatient/checkpoints/*/model.safetensors"))


def test_nothing_is_kept_where_only_the_log_is_missing(server: Server, tmp_path: Path) -> None:
    process = begin("torch", server, "refused", tmp_path / "t")
    process.wait_for("first checkpoint")
    process.signal(signal.SIGKILL)
    process.wait()

    def refuse(request):
        return Error(status=403, code="AccessDenied") if request.method == "GET" and "/model.safetensors" in request.path else None

    with Proxy(server, decide=refuse) as proxy:
        again = begin("torch", proxy, "refused", tmp_path / "u", "--spool", str(tmp_path), "--flush-timeout", "2")
        assert again.wait(60) == 74, again.said
    assert "access denied" in again.said
    assert "Not stored" not in again.said
    assert not list(tmp_path.glob("alexnet-kept-*"))


def test_whoever_reads_the_log_goes_away(server: Server, tmp_path: Path) -> None:
    process = begin("torch", server, "unheard", tmp_path / "t", "--epochs", "2")
    process.wait_for("step 10/")
    process.stop_reading()
    assert process.process.wait(300) == 0
    verified(objects(server), "unheard")


def test_sigterm_while_a_request_of_the_start_hangs(server: Server, tmp_path: Path) -> None:
    """Libraries catch exceptions and try again; this one is not for them."""

    def hang(request):
        return Delay(seconds=300) if "hangs" in request.path and "attempts" in request.path else None

    with Proxy(server, decide=hang) as proxy:
        process = begin("torch", proxy, "hangs", tmp_path / "t")
        while not any("attempts" in request.path for request in list(proxy.requests)):
            assert process.process.poll() is None, process.said
            time.sleep(0.01)
        process.signal(signal.SIGTERM)
        assert process.wait(20) == 74, process.said
        assert "Traceback" not in process.said


def test_the_server_is_away_until_the_disk_is_full(small_disk: Path, alone, tmp_path: Path) -> None:
    with weed() as server:
        server.make_bucket("results")
        process = begin("torch", server, "both", tmp_path / "t", "--checkpoint-steps", "5", "--spool", str(small_disk))
        process.wait_for("first checkpoint")
        server.kill()
        assert process.wait(120) == 74, process.said
        assert "No space left" in process.said
        assert "Traceback" not in process.said
        kept = next(small_disk.glob("alexnet-kept-both-*"))
        assert str(kept) in process.said
        server.restart()
        result = alexnet("sync", str(kept), "s3://results", **server.environment)
        assert result.returncode == 0, result.stderr
        last = begin("torch", server, "both", tmp_path / "u")
        assert last.wait() == 0, last.said
        assert facts(objects(server), "both") == alone["torch"]


def test_the_store_fails_once_at_the_very_end(server: Server, tmp_path: Path) -> None:
    """When all is stored but the summary, each question is asked again, as long as --flush-timeout allows."""
    failed = []

    def decide(request):
        if ".tmp-probe" in request.path and not failed:
            failed.append(request.path)
            return Error(status=503, code="SlowDown")
        return None

    with Proxy(server, decide=decide) as proxy:
        variables = {"TMPDIR": str(tmp_path), **proxy.environment, "AWS_MAX_ATTEMPTS": "1"}
        result = train("torch", "s3://results", "late", **variables)
    assert failed
    assert result.returncode == 0, result.stderr
    verified(objects(server), "late")
