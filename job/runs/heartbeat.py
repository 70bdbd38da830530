"""A run's sign of life: every 30 s it looks whether another attempt took over, and tells watchers how far the training is."""

import threading
from collections.abc import Callable
from contextlib import suppress

from job.core.exits import JobError
from job.core.records import Status
from job.runs.run import Run
from job.storage.errors import StoreError

SECONDS = 30.0
"""between two beats"""


class Heartbeat:
    """`status` gives the facts for status.json.  `verdict` is the JobError (77 or 0) that ends this attempt, once there is one.

    A store that does not answer proves nothing, so its errors pass here; the uploads report them.
    """

    def __init__(self, run: Run, status: Callable[[], Status]) -> None:
        self._run, self._status = run, status
        self.verdict: JobError | None = None
        self._closing = threading.Event()
        threading.Thread(target=self._work, name="heartbeat", daemon=True).start()

    def check(self) -> None:
        if self.verdict:
            raise self.verdict

    def close(self) -> None:
        self._closing.set()

    def _work(self) -> None:
        while True:
            with suppress(StoreError):
                try:
                    self._run.raise_if_superseded()
                except StoreError:
                    raise
                except JobError as verdict:
                    self.verdict = verdict
                    return
                self._run.put_status(self._status())
            if self._closing.wait(SECONDS):
                return
