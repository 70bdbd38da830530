"""The terminal, drawn again every few seconds until no run is at work any more."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor

from rich.console import Console
from rich.live import Live

from job.runs.snapshot import Observer, Snapshot
from job.storage.errors import StoreError
from job.watch.screen import screen


def draw(observers: Sequence[Observer], pool: Executor, seconds: float) -> None:
    """A store that is away is asked again; what was seen last stays."""
    console = Console()
    snapshots = list(pool.map(Observer.snapshot, observers))
    with Live(screen(snapshots, width=console.width), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while any(run.state == "running" for run in snapshots):
            time.sleep(seconds)
            snapshots = [*pool.map(_snapshot, observers, snapshots)]
            live.update(screen(snapshots, width=console.width), refresh=True)


def _snapshot(observer: Observer, before: Snapshot) -> Snapshot:
    try:
        return observer.snapshot()
    except StoreError:
        return before
