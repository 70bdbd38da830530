"""What the workers of a run exchange, by each framework's own means: sums, and a word on why one leaves.

One interface for both engines.  Nothing here decides anything: see `job.workers`.
"""

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.core.place import ALONE, Place
from job.core.sharding import shards_of

JOIN_SECONDS = 600.0
"""within which all workers have to meet: pods are scheduled one after the other, and may have to fetch their image"""
PROBE_SECONDS = 3.0
"""within which a worker that lives answers when another one misses it"""


class Exchange(ABC):
    """Of one worker with all others.  A worker that is missed ends each call with JobError (75)."""

    def __init__(self, place: Place, shards: int) -> None:
        self.place, self.shards = place, shards
        self.mine = shards_of(place.rank, place.workers, shards)
        """numbers of the gradient shards that this worker computes"""

    @abstractmethod
    def total(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """The sum over all workers, on the host, of arrays of one shape.  Waits for all of them."""

    @abstractmethod
    def add(self, tensors: list[Any]) -> list[Any]:
        """The sum over all workers of lists of the framework's tensors of one type, added in the tree of `job.core.sharding`."""

    @abstractmethod
    def put(self, key: str, text: str) -> None:
        """Leave a text, once for each key, that all workers can read."""

    @abstractmethod
    def get(self, key: str, seconds: float) -> str | None:
        """The text under the key; None where nobody has left one within that time.  Raises an error where there is nobody to ask."""

    @abstractmethod
    def close(self) -> None:
        """After an orderly end of all workers."""

    def _meet(self, connect: Callable[[], None]) -> None:
        """Connect, and wait until all workers have.  Raises JobError (75).

        In a thread of its own: a framework may wait for ever for a worker that does not come, and where no signal is heard."""
        place, end = self.place, time.monotonic() + JOIN_SECONDS
        found: SimpleQueue[str] = SimpleQueue()

        def work() -> None:
            try:
                connect()
                self.put(f"here/{place.rank}", "yes")
                missing = [n for n in range(place.workers) if not self.get(f"here/{n}", max(end - time.monotonic() - 1, 0.1))]
                found.put(f"worker {' and '.join(map(str, missing))} did not come" if missing else "")
            except TimeoutError as error:
                found.put(str(error))
            except Exception as error:
                found.put(f"{type(error).__name__}: {error}")

        threading.Thread(target=work, name="meeting", daemon=True).start()
        trouble = "no answer"
        while time.monotonic() < end:
            with suppress(Empty):
                trouble = found.get(timeout=0.5)
                break
        if trouble:
            raise JobError(
                Exit.WORKER_GONE,
                f"worker {place.rank} of {place.workers} did not meet the others at {place.addresses[0]} within {JOIN_SECONDS:.0f} s: "
                f"{trouble}. Look at the logs of the others, and whether this address can be reached.",
            )

    def leave_word(self, text: str) -> None:
        """Why this worker leaves, for the others.  Nothing happens where they cannot be reached."""
        _within(PROBE_SECONDS, lambda: self.put(f"word/{self.place.rank}", text))

    def missed(self, error: Exception) -> JobError:
        """A call failed because of another worker: say which one it is."""
        words: list[str] = []
        silent = list(range(self.place.workers))
        silent.remove(self.place.rank)

        def ask() -> None:
            self.put(f"alive/{self.place.rank}", "yes")
            end = time.monotonic() + PROBE_SECONDS
            for rank in [*silent]:
                if word := self.get(f"word/{rank}", 0.1):
                    silent.remove(rank)
                    words.append(word)
                elif self.get(f"alive/{rank}", max(end - time.monotonic(), 0.1)):
                    silent.remove(rank)

        if not _within(PROBE_SECONDS + self.place.workers, ask):  # it is worker 0 that keeps the texts
            silent[:] = [0] if not self.place.leads else silent
        if words:
            return JobError(Exit.WORKER_GONE, f"{' '.join(words)} So this worker, {self.place.rank}, ends.")
        gone = " and ".join(map(str, silent)) or "another one"
        said = re.sub(r"^(\[\S+\] |\{\{.*\}\} )", "", str(error).strip().partition("\n")[0]).partition(". ")[0]
        return JobError(
            Exit.WORKER_GONE,
            f"worker {gone} of {self.place.workers} does not answer any more: killed, frozen, or cut off. So this worker, "
            f"{self.place.rank}, ends; the same command goes on from the newest checkpoint. ({said[:300]})",
        )


class Alone(Exchange):
    """Of a worker without others."""

    def __init__(self, shards: int = 1) -> None:
        super().__init__(ALONE, shards)

    def total(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        return values

    def add(self, tensors: list[Any]) -> list[Any]:
        return tensors

    def put(self, key: str, text: str) -> None:
        pass

    def get(self, key: str, seconds: float) -> str | None:
        return None

    def close(self) -> None:
        pass


def _within(seconds: float, action: Any) -> bool:
    """Whether the action came to its end in that time: calls about a worker that is frozen may never return."""
    done = threading.Event()

    def work() -> None:
        try:
            action()
        except Exception:
            return
        done.set()

    threading.Thread(target=work, name="probe", daemon=True).start()
    return done.wait(seconds)
