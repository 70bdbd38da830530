"""What `alexnet train` says, and where it says it."""

import os

import pytest

from job.cli.train import Display


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
