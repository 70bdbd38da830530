"""Workers that are threads of one process: an exchange for tests of what workers agree on."""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from job.core.place import Place
from job.engines.exchange import Exchange


class Meeting:
    """Where the threads meet."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.changed = threading.Condition()
        self.values: dict[int, dict[int, Any]] = defaultdict(dict)
        """number of the sum → rank → summand"""
        self.texts: dict[str, str] = {}
        self.gone = False

    def wait_for(self, true: Callable[[], Any], seconds: float) -> bool:
        with self.changed:
            return bool(self.changed.wait_for(true, seconds))

    def change(self, action: Callable[[], Any]) -> None:
        with self.changed:
            action()
            self.changed.notify_all()


class ThreadExchange(Exchange):
    def __init__(self, place: Place, meeting: Meeting) -> None:
        super().__init__(place, place.workers)
        self.meeting, self.number = meeting, 0

    def total(self, values: Any) -> Any:
        meeting, self.number = self.meeting, self.number + 1
        summands = meeting.values[self.number]
        meeting.change(lambda: summands.update({self.place.rank: values}))
        meeting.wait_for(lambda: len(summands) == meeting.workers or meeting.gone, 10)
        if len(summands) < meeting.workers:
            raise self.missed(RuntimeError("a thread is gone"))
        return np.sum([*summands.values()], axis=0, dtype=np.int32)

    def add(self, tensors: list[Any]) -> list[Any]:
        raise NotImplementedError

    def put(self, key: str, text: str) -> None:
        self.meeting.change(lambda: self.meeting.texts.update({key: text}))

    def get(self, key: str, seconds: float) -> str | None:
        self.meeting.wait_for(lambda: key in self.meeting.texts, seconds)
        return self.meeting.texts.get(key)

    def close(self) -> None:
        pass


def together(workers: int, work: Callable[[ThreadExchange], Any]) -> list[Any]:
    """What `work` returns or raises on each of them, by rank."""
    meeting, found = Meeting(workers), [None] * workers

    def run(rank: int) -> None:
        try:
            found[rank] = work(ThreadExchange(Place(rank=rank, workers=workers), meeting))
        except Exception as error:
            found[rank] = error
            meeting.change(lambda: setattr(meeting, "gone", True))

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found
