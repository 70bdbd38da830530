"""What `alexnet train` shows: a progress bar on a terminal, plain lines in a log, or an object of JSON for each line."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from job.analysis.formatting import duration
from job.cli.json_lines import JsonLines
from job.core.exits import Exit, JobError
from job.runs.run import Run
from job.storage.files import without_credentials
from job.training.progress import Progress

TERMINATION_MESSAGE = Path("/dev/termination-log")
"""what a pod's status shows of its end; Kubernetes puts the file there, and takes the end of the log where it stays empty"""
TERMINATION_BYTES = 4096
"""that Kubernetes reads of it"""


class Display:
    def __init__(self, form: str = "auto", worker: int = 0) -> None:
        """`worker`: its rank; of others than 0 only warnings and errors are shown."""
        self.worker = worker
        self.bar: tqdm[Any] | None = None
        self.tenth = -1
        """of the download in progress, as shown last"""
        self.terminal = form == "auto" and sys.stderr.isatty()
        self.json = JsonLines(sys.stderr) if form == "json" else None
        self.newest = ""
        """the line that was said last"""
        self._subject: tuple[Run, Progress] | None = None

    def follow(self, run: Run, progress: Progress) -> None:
        self._subject = run, progress

    def say(self, line: str, /, *, level: str = "info", event: str = "message", **facts: Any) -> None:
        self.newest = line
        if self.worker:
            if level == "info":
                return
            line = f"worker {self.worker}: {line}"
        with self._reader_may_be_gone():
            if self.json:
                if level == "error" and (printed := self.json.release()):
                    self.json.write({"level": level, **self._standing(), "event": "output", "message": printed})
                self.json.write({"level": level, **self._standing(), "event": event, "message": line, **facts})
            elif self.terminal:
                tqdm.write(line, file=sys.stderr)
            else:
                print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    def _standing(self) -> dict[str, Any]:
        """Which run a line is about, and where it stands; null before it is known."""
        if self._subject is None:
            return {"run": None, "attempt": None, "epoch": None, "step": None}
        run, progress = self._subject
        return {"run": run.id, "attempt": run.attempt or None, "epoch": len(progress.epochs), "step": progress.step}

    def show(self, step: int, total: int, loss: float, speed: float, left: float) -> None:
        if not self.terminal:
            facts: dict[str, Any] = {"steps": total, "loss": loss, "images_per_second": speed, "seconds_left": left}
            self.say(f"step {step}/{total}: loss {loss:.4f}, {speed:.0f} images/s, {duration(left)} left", event="step", **facts)
            if self.json:
                self.json.release()
            return
        with self._reader_may_be_gone():
            if self.bar is None:
                form = "{l_bar}{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
                self.bar = tqdm(total=total, initial=step, bar_format=form, file=sys.stderr, dynamic_ncols=True)
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(f"loss {loss:.3f}, {speed:.0f} images/s, {duration(left)} left")

    def show_download(self, received: int, total: int | None) -> None:
        tenth = received * 10 // total if total else received // 10_000_000
        if tenth != self.tenth:
            self.tenth = tenth
            text = f"downloading: {received / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"downloading: {received / 1e6:.0f} MB"
            self.say(text, event="download")

    def fail(self, error: Exception) -> Exit:
        """The code to end with, once the error is in the pod's status and in the log.  Where that is text it is raised."""
        code = error.code if isinstance(error, JobError) else None
        message = without_credentials(str(error) if code is not None else f"internal error; please report this.\n{traceback.format_exc()}")
        if code is not None and not (self.worker and code is Exit.WORKER_GONE):  # the message is the failed one's
            leave_message(message)
        if not self.json:
            raise error
        code = Exit.INTERNAL if code is None else code
        self.say(message, level="error", event="error", exit_code=code)
        return code

    def close(self) -> None:
        if self.bar is not None:
            with self._reader_may_be_gone():
                self.bar.close()
        if self.json:
            self.json.release()

    @contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        """A pipe whose reader has ended, a terminal that was closed: the run goes on without a word."""
        try:
            yield
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.json.fileno() if self.json else sys.stderr.fileno())


def leave_message(text: str) -> None:
    """For the pod's status; outside of a pod nothing happens."""
    with suppress(OSError):
        if TERMINATION_MESSAGE.exists():
            TERMINATION_MESSAGE.write_bytes(text.encode()[:TERMINATION_BYTES])
