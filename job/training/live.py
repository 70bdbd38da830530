"""What `tensorboard --logdir OUTPUT` shows of a run while it works: an event file that grows, where the output is a folder.

It lies in the run's folder under a name that no object has, so that nothing copies it or relies on it; `final/` has the whole one later.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from job.core.records import MetricsLine
from job.runs.run import Run
from job.storage.files import TEMPORARY
from job.storage.folder import FolderStore

if TYPE_CHECKING:
    from job.figures.tensorboard import GrowingEvents

ENDING = ".tfevents"


class LiveEvents:
    """Of one attempt, with all lines of the run; those of earlier attempts go.  A disk that is full is the next checkpoint's to report."""

    def __init__(self, run: Run) -> None:
        self._path: Path | None = None
        self._file: GrowingEvents | None = None
        if isinstance(run.store, FolderStore):
            folder = run.store.root / run.id
            with suppress(OSError):
                for path in folder.glob(f"{TEMPORARY}*{ENDING}"):
                    path.unlink()
            self._path = folder / f"{TEMPORARY}{run.attempt}{ENDING}"

    def update(self, lines: Sequence[MetricsLine]) -> None:
        """`lines`: all of the run so far."""
        from job.figures.tensorboard import GrowingEvents  # a second that the first step does not wait for

        if self._path is not None:
            self._file = self._file or GrowingEvents(self._path)
            with suppress(OSError):
                self._file.update(lines)

    def remove(self) -> None:
        """`final/` has them now."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
