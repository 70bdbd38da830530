"""Programs that take turns: each in a process of its own, started once, at work only while it has its turn.

A program says that it is ready, and calls `serve` with the things that it can do.  The other
side starts it as a `Contestant` and asks for one of them at a time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self, TypedDict

import psutil

from job.core.exits import Exit, JobError
from job.telemetry.host import peak_memory

Reply = dict[str, Any]
Action = Callable[[int], Reply]
"""does something so many times, and returns what it measured"""


class Turn(TypedDict):
    """What a turn took."""

    seconds: float
    """of one time"""
    cpu_seconds: float
    """CPU time of the process for one time"""


class Stages:
    """Seconds of each stage on the way to the first step, from the start of this process."""

    def __init__(self) -> None:
        self._since = psutil.Process().create_time()
        self._seconds: dict[str, float] = {}

    def end(self, stage: str) -> None:
        now = time.time()
        self._seconds[stage], self._since = now - self._since, now

    @property
    def seconds(self) -> dict[str, float]:
        return self._seconds


@contextmanager
def replies() -> Iterator[Callable[[Reply], None]]:
    """In the program: a function that answers.  What else the process prints goes to standard error.  A JobError is an answer as well."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(facts: Reply) -> None:
        print(json.dumps(facts), file=stream)

    try:
        yield reply
    except JobError as error:
        reply({"error": str(error), "code": error.code})


def serve(actions: Mapping[str, Action], reply: Callable[[Reply], None]) -> None:
    """Do what each line of standard input asks for, `ACTION COUNT`, until there are no more."""
    for line in sys.stdin:
        action, count = line.split()
        reply(actions[action](int(count)) | {"peak_host_memory_bytes": peak_memory()})


def timed(run: Callable[[], object], times: int, seconds: Callable[[Callable[[], object]], float]) -> Turn:
    """A turn in which `run` does something so many times, as measured by `seconds`."""
    worked = time.process_time()
    took = seconds(run)
    return {"seconds": took / times, "cpu_seconds": (time.process_time() - worked) / times}


class Contestant:
    """A program with its process.  `facts`: what it said of itself, once it was ready.  Raises JobError (70) where it fails."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment, bufsize=1
        )
        self.facts: Reply = {}
        self.peak_host_memory = 0

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        try:
            self.facts = self._reply()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, action: str, count: int) -> Reply:
        """Let it do something so many times."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it has failed: the reply tells
            print(action, count, file=self._process.stdin)
        reply = self._reply()
        self.peak_host_memory = reply.pop("peak_host_memory_bytes")
        return reply

    def close(self) -> None:
        """End it: it reads that there is nothing more to do."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):  # it has failed, and was reported
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _reply(self) -> Reply:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            reply: Reply = json.loads(line)
            if "error" in reply:
                raise JobError(Exit(reply["code"]), reply["error"])
            return reply
        code = self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1][:300]
        raise JobError(Exit.INTERNAL, f"{self.name}: ended with code {code} ({last}). Run `alexnet doctor` on this machine.")
