"""Where the words of a training go."""

from typing import Any, Protocol

from job.runs.run import Run
from job.training.progress import Progress


class Say(Protocol):
    def __call__(self, line: str, /, **facts: Any) -> None:
        """A line of the log; `facts` are for machines, `event` the kind of line among them."""


class Display(Protocol):
    def follow(self, run: Run, progress: Progress) -> None:
        """What the lines are about from now on."""

    def say(self, line: str, /, **facts: Any) -> None:
        """As `Say`."""

    def show(self, step: int, steps: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        """Progress after a logging interval."""

    def show_download(self, received: int, total: int | None) -> None:
        """Bytes of a file on its way."""
