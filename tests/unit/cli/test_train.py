"""What `alexnet train` says, and where it says it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.cli import display as module
from job.cli.display import Display
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.runs.run import Run
from job.storage.folder import FolderStore
from job.training.progress import Progress, Workload


@pytest.mark.parametrize("form", ["auto", "json"])
def test_a_terminal_that_was_closed_ends_nothing(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing to it fails with EIO, as after SIGHUP."""
    master, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        display = Display(form)
        assert display.terminal is (form == "auto")
        display.show(1, 10, 2.3, 100.0, 60.0)
        os.close(master)
        for number in (2, 3):
            display.say("a line")
            display.show(number, 10, 2.3, 100.0, 60.0)
        display.close()


class Log:
    """stderr is a file here.  It takes its place when a Display is made: pytest has its own until a test begins."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, self._monkeypatch = path, monkeypatch

    def display(self, form: str = "json") -> Display:
        self._monkeypatch.setattr("sys.stderr", self._path.open("a"))
        return Display(form)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(tmp_path / "log", monkeypatch)


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that Kubernetes puts into a container for its last words."""
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setattr(module, "TERMINATION_MESSAGE", path)
    return path


def test_every_line_names_the_run_and_where_it_stands(log: Log, tmp_path: Path) -> None:
    display = log.display()
    display.say("checking")
    run = Run(FolderStore(tmp_path), "r")
    progress = Progress(Workload.of(Recipe(epochs=2, batch_size=9), np.zeros(90, np.uint8), seed=0))
    progress.step = 7
    display.follow(run, progress)
    display.show(7, 20, 2.3, 100.0, 60.0)
    display.say("epoch 1/2: …", event="epoch", test_accuracy=0.5)
    first, step, epoch = log.lines
    assert all({"time", "level", "run", "attempt", "epoch", "step", "event", "message"} <= set(line) for line in log.lines)
    assert (first["run"], first["event"], first["level"]) == (None, "message", "info")
    assert (step["run"], step["step"], step["steps"], step["event"], step["loss"]) == ("r", 7, 20, "step", 2.3)
    assert (epoch["event"], epoch["test_accuracy"]) == ("epoch", 0.5)
    display.close()


def test_what_frameworks_print_first_is_shown_only_where_it_fails(log: Log) -> None:
    """At the level of the operating system, where a library in C writes."""
    for fails in (False, True):
        display = log.display()
        os.write(1, b"a banner\n")
        os.write(2, b"Could not find cuda drivers\n")
        if fails:
            assert display.fail(JobError(Exit.DEVICE, "no GPU")) is Exit.DEVICE
        display.close()
    output, error = log.lines
    assert (output["event"], output["message"]) == ("output", "a banner\nCould not find cuda drivers")
    assert (error["event"], error["level"], error["exit_code"], error["message"]) == ("error", "error", 71, "no GPU")


def test_the_first_interval_gives_the_output_back(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    """A crash in C later must not lose its last words."""
    display = log.display()
    os.write(2, b"a banner\n")
    display.show(1, 10, 2.3, 100.0, 60.0)
    os.write(2, b"double free or corruption\n")
    assert capfd.readouterr().err == "double free or corruption\n"
    assert [line["event"] for line in log.lines] == ["step"]


def test_an_unforeseen_error_is_one_line_too(log: Log, message: Path) -> None:
    display = log.display()
    try:
        raise ZeroDivisionError("x" * 10)
    except ZeroDivisionError as error:
        code = display.fail(error)
    assert code is Exit.INTERNAL
    display.close()
    (line,) = log.lines
    assert "Traceback" in line["message"]
    assert "ZeroDivisionError: xxxxxxxxxx" in line["message"]
    assert message.read_text() == "", "Kubernetes takes the end of the log then"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_is_in_the_pods_status(form: str, log: Log, message: Path) -> None:
    display = log.display(form)
    error = JobError(Exit.DATA, "damaged: https://b.example/r?X-Amz-Signature=5f0e1c " + "é" * 5000)
    if form == "json":
        assert display.fail(error) is Exit.DATA
    else:
        with pytest.raises(JobError, match="damaged"):
            display.fail(error)
    display.close()
    assert message.read_text(errors="ignore").startswith("damaged: https://b.example/r")
    assert "5f0e1c" not in message.read_text(errors="ignore")
    assert message.stat().st_size <= 4096


def test_no_file_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TERMINATION_MESSAGE", tmp_path / "absent")
    module.leave_message("finished")
    assert not (tmp_path / "absent").exists()
