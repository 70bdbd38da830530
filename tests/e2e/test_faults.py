"""What may not be written, is full, is refused or breaks: a clear message, the right code, nothing lost, no secret told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import TINY, alexnet, arguments, begin, environment, train
from tests.support.proxy import Error, Proxy
from tests.support.servers import Server, weed
from tests.support.stored import folder_objects, objects, verified

RUN = """
import runpy, sys
sys.argv = ["alexnet", *sys.argv[1:]]
runpy.run_module("job", run_name="__main__")
"""


def train_after(script: str, output: str, run: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The real command, in a process that has run `script` before."""
    words = ["train", "--engine", "torch", "--output", output, "--run-id", run, *TINY, *options]
    command = [sys.executable, "-c", script + RUN, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment(**variables))


NO_LINKS = """
import errno, os

def refuse(*_, **__):
    raise OSError(errno.EPERM, "Operation not permitted")

os.link = refuse
"""


def test_a_file_system_without_hard_links(tmp_path: Path) -> None:
    result = train_after(NO_LINKS, str(tmp_path / "runs"), "unlinked", "--set", "validation=64", TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    verified(folder_objects(tmp_path / "runs"), "unlinked")


def test_a_key_without_the_right_to_write(server: Server, tmp_path: Path) -> None:
    result = train("torch", "s3://results", "reader", TMPDIR=str(tmp_path), **server.reader_environment)
    assert result.returncode == 78, result.stderr
    assert "access denied" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_key_is_revoked_in_mid_run(tmp_path: Path) -> None:
    """From some moment on the server answers 403 to everything: what is not stored stays in a folder, and the message names both."""
    revoked = False

    def decide(_):
        return Error(status=403, code="AccessDenied") if revoked else None

    with weed() as server, Proxy(server, decide=decide) as proxy:
        server.make_bucket("results")
        process = begin("torch", proxy, "revoked", tmp_path / "t", "--spool", str(tmp_path / "spool"), "--flush-timeout", "1")
        process.wait_for("first checkpoint")
        revoked = True
        assert process.wait(120) == 74, process.said
        assert "access denied" in process.said
        assert "Traceback" not in process.said
        kept = next((tmp_path / "spool").glob("alexnet-kept-revoked-*"))
        assert str(kept) in process.said
        assert list(kept.rglob("MANIFEST.json")) or list(kept.rglob("model.safetensors"))
        revoked = False
        assert alexnet("sync", str(kept), "s3://results", **server.environment).returncode == 0
        last = begin("torch", server, "revoked", tmp_path / "u")
        assert last.wait() == 0, last.said
        verified(objects(server), "revoked")


def test_the_spools_disk_is_full(small_disk: Path, server: Server, tmp_path: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(5 << 20))
    result = train("torch", "s3://results", "full", "--spool", str(small_disk), TMPDIR=str(tmp_path), **server.environment)
    assert result.returncode == 74, result.stderr
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr
    (small_disk / "ballast").unlink()
    again = train("torch", "s3://results", "full", "--spool", str(small_disk), TMPDIR=str(tmp_path), **server.environment)
    assert again.returncode == 0, again.stderr
    verified(objects(server), "full")


def no_overwriter() -> list[str]:
    """The start of a command for whom modes count, even if it is root's: reading everything stays, for the checkout may lie in a home."""
    if os.geteuid() != 0:
        return []
    start = ["setpriv", "--bounding-set=-dac_override", "--"]
    try:
        subprocess.run([*start, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"root may write everywhere, and here it cannot do without that right ({error})")
    return start


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir(mode=0o555)
    command = [*no_overwriter(), *arguments("train", "--engine", "torch", "--output", str(output), "--run-id", "x", *TINY)]
    variables = environment(TMPDIR=str(tmp_path), HOME="/nonexistent")
    result = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert result.returncode == 78, result.stderr
    assert "Permission denied" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_secret_anywhere(server: Server, tmp_path: Path) -> None:
    """Not in a log line, artifact or message, with Python's own debug switches on and a token among the credentials."""
    variables = server.environment | {"PYTHONDEVMODE": "0", "BOTO_DEBUG": "1", "TMPDIR": str(tmp_path)}
    good = train("torch", "s3://results", "quiet", **variables)
    assert good.returncode == 0, good.stderr
    wrong = variables | {"AWS_SECRET_ACCESS_KEY": "wrong-secret-4711", "AWS_SESSION_TOKEN": "session-token-0815"}
    bad = train("torch", "s3://results", "quiet", **wrong)
    assert bad.returncode == 78, bad.stderr
    words = [server.secret, "wrong-secret-4711", "session-token-0815", "X-Amz-Signature", "Signature="]
    written = [good.stdout, good.stderr, bad.stdout, bad.stderr, *(data.decode("latin-1") for data in objects(server).values())]
    assert not [word for word in words for text in written if word in text]


DEBUG = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
"""


def test_no_secret_at_debug_level(server: Server, tmp_path: Path) -> None:
    result = train_after(DEBUG, "s3://results", "loud", TMPDIR=str(tmp_path), **server.environment)
    assert result.returncode == 0, result.stderr
    assert "DEBUG" in result.stderr, "debug lines were not on"
    assert server.secret not in result.stderr
    assert "Signature=" not in result.stderr


def test_a_watcher_sees_how_far_it_is(server: Server, tmp_path: Path) -> None:
    process = begin("torch", server, "watched", tmp_path / "t", "--epochs", "2")
    process.wait_for("epoch 1/")
    assert process.wait() == 0
    found = objects(server)
    status = json.loads(next(data for key, data in found.items() if key.startswith("watched/attempts/") and key.endswith("status.json")))
    assert (status["run"], status["epochs"], status["steps"]) == ("watched", 2, 90)
    end = json.loads(next(data for key, data in found.items() if key.startswith("watched/attempts/") and key.endswith("end.json")))
    assert (end["exit_code"], end["epoch"], end["step"]) == (0, 2, 90)
