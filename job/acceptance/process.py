"""The process of one GPU, as the node's process sees it: started, listened to, ended."""

import json
import os
import subprocess
import sys
import tempfile
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Self

from job.acceptance.worker import Order
from job.core.resource_records import GpuIdentity


class Worker:
    """The process of one GPU, and what it says."""

    def __init__(self, order: Order, gpu: GpuIdentity) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        seen = {"CUDA_VISIBLE_DEVICES": gpu["uuid"]} if gpu["uuid"] else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "job.acceptance.worker", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **seen},
        )
        self._messages: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.ending = ""
        """why it said no more, in one sentence"""

    def __enter__(self) -> Self:
        Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # has no more to say, or is not listened to any more
        self._process.wait()
        self._errors.close()

    def next(self, seconds: float) -> dict[str, Any] | None:
        """What it says next; None where it has ended, or was silent for so long."""
        try:
            message = self._messages.get(timeout=seconds)
        except Empty:
            self.ending = f"it hung: no sign for {seconds:.0f} s"
            return None
        if message is None:
            code = self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1][:300]
            self.ending = f"its process ended with code {code} ({last})"
        return message

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)
