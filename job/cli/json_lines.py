"""A log in which every line is an object of JSON, whatever else writes to the process's output."""

import json
import os
import tempfile
import time
from typing import Any, TextIO

MOST = 16_384
"""bytes of the libraries' output that are shown"""


class JsonLines:
    """Writes to the stream.  What frameworks print to stdout and stderr while they start is kept, until `release` gives it back.

    From then on nothing stands between a library and the log: a crash must not lose its last words.
    """

    def __init__(self, stream: TextIO) -> None:
        self._log = os.fdopen(os.dup(stream.fileno()), "w")
        self._kept = tempfile.TemporaryFile()  # noqa: SIM115  until `release`
        self._real = {number: os.dup(number) for number in (1, 2)}
        for number in self._real:
            os.dup2(self._kept.fileno(), number)

    def fileno(self) -> int:
        return self._log.fileno()

    def write(self, line: dict[str, Any]) -> None:
        stamp = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        print(json.dumps(stamp | line), file=self._log, flush=True)

    def release(self) -> str:
        """Give stdout and stderr back; returns the end of what was printed meanwhile.  "" at the second time."""
        if not self._real:
            return ""
        for number, real in self._real.items():
            os.dup2(real, number)
            os.close(real)
        self._real = {}
        size = self._kept.seek(0, os.SEEK_END)
        self._kept.seek(max(size - MOST, 0))
        with self._kept:
            return self._kept.read().decode(errors="replace").strip()
