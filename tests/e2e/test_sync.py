"""`alexnet sync` against a real server: what a run kept, when its store was away, is delivered to another one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import Process, alexnet, arguments, environment, train
from tests.support.proxy import Proxy
from tests.support.servers import Server, weed
from tests.support.stored import folder_objects, objects, verified


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves whose server died for good: two epochs, and none of it in the store."""
    place = tmp_path_factory.mktemp("kept")
    with weed() as gone:
        gone.make_bucket("results")
        process = Process("torch", "s3://results", "r", "--flush-timeout", "1", "--spool", str(place), **gone.environment)
        process.wait_for("step 10/")
        gone.kill()
        assert process.wait() == 74, process.said
    folder = next(place.glob("alexnet-kept-r-*"))
    assert f"alexnet sync {folder} s3://results" in " ".join(process.said.split())
    return folder


def test_what_a_run_kept_completes_it_elsewhere(kept: Path, server: Server) -> None:
    for said in ("r/summary.json\n", "run r: all there\n"):
        result = alexnet("sync", str(kept), "s3://results/elsewhere", **server.environment)
        assert (result.returncode, result.stderr) == (0, "")
        assert said in result.stdout
    found = {key.removeprefix("elsewhere/"): data for key, data in objects(server).items() if key.startswith("elsewhere/")}
    verified(found, "r")
    again = train("torch", "s3://results/elsewhere", "r", **server.environment)
    assert "is finished" in again.stderr
    compared = alexnet("report", "s3://results/elsewhere/r", "--output", str(kept.parent / "page"), **server.environment)
    assert compared.returncode == 0, compared.stderr


def test_a_bad_network(kept: Path, server: Server) -> None:
    """However often a try fails, the next one goes on, and the end is whole."""
    with Proxy(server, seed=3, errors=0.2, resets=0.1, truncations=0.05, lost_replies=0.1) as proxy:
        codes = [alexnet("sync", str(kept), "s3://results/bad", "--flush-timeout", "0", **proxy.environment).returncode for _ in range(3)]
        assert proxy.counts["Error"]
    assert set(codes) <= {0, 74}
    if codes[-1]:
        assert alexnet("sync", str(kept), "s3://results/bad", **server.environment).returncode == 0
    verified({key.removeprefix("bad/"): data for key, data in objects(server).items() if key.startswith("bad/")}, "r")


def test_a_server_that_is_away(kept: Path, tmp_path: Path) -> None:
    with weed() as away:
        away.make_bucket("results")
        variables = away.environment | {"AWS_MAX_ATTEMPTS": "1"}
    result = alexnet("sync", str(kept), "s3://results", "--flush-timeout", "1", **variables)
    assert result.returncode == 74
    assert "trying again and again for 1 s" in result.stdout
    assert "Not delivered: " in result.stderr
    assert "r/" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_comes_back(kept: Path) -> None:
    """It is away at the start and again in the middle; one command delivers all."""
    with weed() as server:
        server.make_bucket("results")
        server.kill()
        variables = environment(**server.environment, AWS_MAX_ATTEMPTS="1", PYTHONUNBUFFERED="1")
        command = arguments("sync", str(kept), "s3://results")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
            assert process.stdout
            for line in process.stdout:
                if "trying again and again for 600 s" in line:
                    server.restart()
                if "/claim.json" in line:
                    server.kill()
        assert process.returncode == 0
        verified(objects(server), "r")


def test_without_the_right_to_write(kept: Path, server: Server) -> None:
    result = alexnet("sync", str(kept), "s3://results/reader", **server.reader_environment)
    assert result.returncode == 78
    assert "access denied" in result.stderr


def test_an_output_folder_goes_to_a_bucket(kept: Path, server: Server, tmp_path: Path) -> None:
    """Folder to folder and folder to bucket leave the same bytes; another attempt's results there stay."""
    assert alexnet("sync", str(kept), str(tmp_path / "output")).returncode == 0
    assert alexnet("sync", str(tmp_path / "output"), "s3://results/copy", **server.environment).returncode == 0
    found = {key.removeprefix("copy/"): data for key, data in objects(server).items() if key.startswith("copy/")}
    assert found == folder_objects(tmp_path / "output")
    summary = json.loads(found["r/summary.json"])
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "output", other)
    (other / "r" / "summary.json").write_text(json.dumps({**summary, "attempt": "0009-ffffff"}))
    result = alexnet("sync", str(other), "s3://results/copy", **server.environment)
    assert result.returncode == 77
    assert f"finished by attempt {summary['attempt']}" in result.stderr
