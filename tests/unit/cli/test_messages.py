"""What no message of the command says: the signature of a URL, which is as good as a password."""

import pytest

from job.cli import COMMANDS, run

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
}


def test_every_command_is_tried() -> None:
    assert {*CALLS} == {*COMMANDS}


@pytest.mark.parametrize(("command", "words"), [(name, words) for name, calls in CALLS.items() for words in calls])
def test_a_presigned_url_stays_secret(
    command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr("sys.argv", ["alexnet", command, *words])
    code, printed = run(), "".join(capfd.readouterr())
    assert code == 2, printed
    assert not any(secret in printed for secret in ("5f0e1c", "t0ken", "AKIA")), printed
    assert "--run-id" not in printed or "--run-id" in words
