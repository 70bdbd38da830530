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
    looks = list(pool.map(Observer.look, observers))
    with Live(screen(looks, width=console.width), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while any(run.state == "running" for run in looks):
            time.sleep(seconds)
            looks = [*pool.map(_look, observers, looks)]
            live.update(screen(looks, width=console.width), refresh=True)


def _look(observer: Observer, before: Snapshot) -> Snapshot:
    try:
        return observer.look()
    except StoreError:
        return before
