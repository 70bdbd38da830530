"""What `tensorboard --logdir DIR` shows of a run in a store while it works: an event file here that grows with the run's checkpoints."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from job.figures.tensorboard import GrowingEvents
from job.runs.snapshot import Observer, Snapshot
from job.storage.errors import StoreError
from job.storage.files import TEMPORARY, local_errors
from job.watch.screen import line

NAME = f"{TEMPORARY}follow.tfevents"
"""in the run's folder; no object has such a name"""


def follow(observer: Observer, folder: Path, say: Callable[[str], None], seconds: float) -> None:
    """Until the run is at work no more.  A store that is away is asked again.  Raises JobError as `Observer.snapshot`."""
    path = folder / observer.run.id / NAME
    with local_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        events, said = GrowingEvents(path), 0
        snapshot: Snapshot | None = observer.snapshot()
        while snapshot is None or snapshot.state == "running":
            if snapshot is not None:
                events.update(snapshot.lines)
                if len(snapshot.lines) > said or not said:
                    say(line(snapshot))
                    said = max(len(snapshot.lines), 1)
            time.sleep(seconds)
            snapshot = None
            with suppress(StoreError):
                snapshot = observer.snapshot()
        events.update(snapshot.lines)
        if snapshot.summary is not None:  # `final/` has an event file of its own
            path.unlink(missing_ok=True)
