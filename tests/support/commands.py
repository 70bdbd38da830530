"""Start the real command in a process of its own."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.surroundings import without_settings

TINY = ("--data", "digits", "--recipe", "digits", "--width", "0.0625", "--epochs", "2", "--threads", "1", "--log-steps", "10")

LONG = ("--epochs", "12", "--checkpoint-steps", "15")
"""12 epochs of 45 steps"""


def arguments(*words: str) -> list[str]:
    return [sys.executable, "-m", "job", *words]


def environment(**variables: str) -> dict[str, str]:
    """That of a command: the given settings and no other ones."""
    return {**without_settings(os.environ), "TF_CPP_MIN_LOG_LEVEL": "3", **variables}


def alexnet(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments(*words), capture_output=True, text=True, check=False, timeout=300, env=environment(**variables))


def train(engine: str, output: Path | str, run: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return alexnet("train", "--engine", engine, "--output", str(output), "--run-id", run, *TINY, *words, **variables)


def summary(output: Path, run: str) -> dict[str, Any]:
    return json.loads((output / run / "summary.json").read_text())


def model(output: Path, run: str) -> Path:
    return output / run / summary(output, run)["model"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def losses(output: Path, run: str) -> list[tuple[int, float]]:
    """(step, last loss) of every logged interval."""
    lines = (output / run / "final" / summary(output, run)["attempt"] / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["last_loss"]) for line in map(json.loads, lines) if line["kind"] == "interval"]


class Process:
    """A training in the background, its lines collected as they come."""

    def __init__(self, engine: str, output: Path | str, run: str, *words: str, **variables: str) -> None:
        command = arguments("train", "--engine", engine, "--output", str(output), "--run-id", run, *TINY, *words)
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**variables))
        self.lines: list[str] = []
        self._listening = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in iter(self.process.stderr.readline, ""):
            self.lines.append(line)
            if not self._listening:
                self.process.stderr.close()
                return

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def step(self) -> int:
        """The last one that the log names."""
        return max((int(n) for n in re.findall(r"step (\d+)/", self.said)), default=0)

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Until the log says so.  AssertionError if the process ends before."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.01)

    def wait(self, seconds: float = 300) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def stop_reading(self) -> None:
        """The reader of the log goes away: the line after the next finds a broken pipe."""
        self._listening = False

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def handles(self, number: int) -> bool:
        """Has it set a handler for the signal?"""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (mask,) = re.findall(r"SigCgt:\s+([0-9a-f]+)", status)
        return bool(int(mask, 16) >> number - 1 & 1)


def begin(engine: str, server: Server | Proxy, run: str, temporary: Path, *words: str) -> Process:
    """A LONG run into the bucket, with an empty disk of its own for everything temporary."""
    temporary.mkdir()
    return Process(engine, "s3://results", run, *LONG, *words, TMPDIR=str(temporary), **server.environment)
