"""What no message of the command says: the signature of a URL, which is as good as a password.  And where to look for a run."""

import errno
import os
from pathlib import Path

import pytest

from job.cli import COMMANDS, run
from job.core.exits import Exit
from job.storage.files import encoded
from tests.support.records import run_record

SIGNED = "https://bucket.example/prefix/my-run?X-Amz-Credential=AKIA/20261125/x&X-Amz-Signature=5f0e1c&X-Amz-Security-Token=t0ken"
CALLS = {
    "train": [
        ["--engine", "torch", "--run-id", SIGNED],
        ["--engine", "torch", "--output", SIGNED],
        ["--engine", "torch", "--data", SIGNED],
    ],
    "runs": [[SIGNED]],
    "compare": [[SIGNED, SIGNED]],
    "report": [[SIGNED]],
    "watch": [[SIGNED]],
    "evaluate": [[SIGNED]],
    "predict": [[SIGNED, "picture.png"]],
    "export": [[SIGNED, "x.onnx"], ["runs/r", SIGNED]],
    "pull": [[SIGNED, "here"], ["runs/r", SIGNED]],
    "sync": [[SIGNED, "there"], [".", SIGNED]],
    "data": [["push", "digits", SIGNED]],
    "describe": [[SIGNED]],
    "trace": [["--engine", "torch", "--output", SIGNED, "--steps", "0"]],
    "parity": [[SIGNED, SIGNED]],
    "doctor": [["--output", SIGNED, "--no-such"]],
    "bench": [[SIGNED]],
    "accept": [["--engine", "torch", "--run-id", SIGNED], ["--engine", "torch", "--output", SIGNED], [SIGNED]],
}


LOGIN = "https://me:5f0e1c@host.example/my-run"
LOGINS = [("sync", [LOGIN, "there"]), ("data", [LOGIN]), ("describe", ["--recipe", LOGIN]), ("runs", [LOGIN]), ("pull", [LOGIN, "here"])]


def test_every_command_is_tried() -> None:
    assert {*CALLS} == {*COMMANDS}


@pytest.mark.parametrize(("command", "words"), [(name, words) for name, calls in CALLS.items() for words in calls] + LOGINS)
def test_what_a_url_holds_stays_secret(
    command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr("sys.argv", ["alexnet", command, *words])
    code, printed = run(), "".join(capfd.readouterr())
    assert code == 2, printed
    assert not any(secret in printed for secret in ("5f0e1c", "t0ken", "AKIA")), printed
    assert "--run-id" not in printed or "--run-id" in words


@pytest.mark.parametrize(
    ("run_url", "words"),
    [
        ("runs", "runs is no run, but holds some. Expected runs/ID; `alexnet runs runs` lists them."),
        ("mine", "Did you mean runs/mine?"),
        ("other", "`alexnet runs .` lists those that are there."),
        ("runs/other", "`alexnet runs runs` lists those that are there."),
    ],
)
def test_where_to_look_for_a_run(
    run_url: str, words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "run.json").write_bytes(encoded(run_record()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["alexnet", "report", run_url])
    assert run() == Exit.USAGE
    assert words in capfd.readouterr().err


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_bytes(encoded(run_record()))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("job.analysis.progress_page.write_page", full)
    monkeypatch.setattr("sys.argv", ["alexnet", "report", str(tmp_path / "mine"), "--output", str(tmp_path)])
    assert run() == Exit.NOT_STORED
    assert "No space left on device" in (said := capfd.readouterr().err)
    assert "Traceback" not in said
