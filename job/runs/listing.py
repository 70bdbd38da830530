"""All runs of a store at a glance.

A finished run costs one request, the GET of its summary; another one a listing of its attempts and a GET of the one object that tells
most.  No run costs more than one object.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

from job.core.exits import Exit, JobError
from job.runs.run import ATTEMPT, RUN_ID
from job.storage.errors import NotFound
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.store import Store

SILENT = 120.0
"""seconds without a new status.json after which an attempt counts as gone; it writes one every 30"""
INTERRUPTED = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.NOT_STORED, Exit.SUPERSEDED, Exit.UNREACHABLE)
"""exit codes after which the same command continues"""
THREADS = 8
WORTH_A_PROCESS = 250
"""runs for which it pays to start another process: a request keeps Python busy for 2 ms, during which its other threads wait"""
SHARE = 20
"""runs that a process takes at a time; it keeps two more in hand, for which the others wait at the end"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one object of a run told."""

    run: str
    state: str
    """running, interrupted, failed, finished; damaged where that object is not JSON"""
    reason: str | None = None
    """why it ended, where that is known"""
    engine: str | None = None
    recipe: str | None = None
    epoch: int | None = None
    """epochs done"""
    epochs: int | None = None
    """that it shall have"""
    test_accuracy: float | None = None
    images_per_second: float | None = None
    age: float | None = None
    """seconds since the last sign of life of a run that is not finished, by the store's clock"""


def list_runs(store: Store) -> list[Row]:
    """Every run directly below the store's place, by name."""
    now = store.now()
    names = [name for name in store.folders() if RUN_ID.fullmatch(name)]
    helpers = 0 if isinstance(store, FolderStore) else min(len(os.sched_getaffinity(0)), len(names) // WORTH_A_PROCESS) - 1
    if helpers < 1:
        return _rows(store, names, now)
    shares = [names[start : start + SHARE] for start in range(0, len(names), SHARE)]
    rows: list[Row] = []
    with ProcessPoolExecutor(helpers, get_context("spawn")) as pool:
        asked = [pool.submit(_share, store.url, share, now) for share in shares]
        for future, share in zip(reversed(asked), reversed(shares), strict=True):  # this process works from the other end
            answer = _rows(store, share, now) if future.cancel() else future.result()
            if isinstance(answer, tuple):
                pool.shutdown(cancel_futures=True)
                raise JobError(*answer)
            rows += answer
    return sorted(rows, key=lambda row: row.run)


def sorted_rows(rows: Sequence[Row], key: str) -> list[Row]:
    """By a field, with the greatest accuracy, speed and epoch first and unknown values last."""
    greatest_first = key in ("test_accuracy", "images_per_second", "epoch")
    known = sorted((row for row in rows if getattr(row, key) is not None), key=lambda row: getattr(row, key), reverse=greatest_first)
    return [*known, *(row for row in rows if getattr(row, key) is None)]


def _share(url: str, names: list[str], now: float) -> list[Row] | tuple[Exit, str]:
    """In a process of its own.  An error comes back as its parts, since exceptions of several arguments do not travel."""
    try:
        return _rows(_opened(url), names, now)
    except JobError as error:
        return error.code, str(error)


@cache
def _opened(url: str) -> Store:
    """Opening a store costs as much as fifty requests."""
    return open_store(url)


def _rows(store: Store, names: list[str], now: float) -> list[Row]:
    with ThreadPoolExecutor(THREADS) as pool:
        return [row for row in pool.map(lambda name: _row(store, name, now), names) if row is not None]


def _row(store: Store, run: str, now: float) -> Row | None:
    """None: the folder is no run."""
    try:
        found = json.loads(store.get(f"{run}/summary.json"))
    except NotFound:
        return _unfinished(store, run, now)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return Row(run=run, state="damaged", reason="summary.json is not a JSON object")
    return Row(run=run, state="finished", epoch=found.get("epochs"), **_known(found))


def _unfinished(store: Store, run: str, now: float) -> Row | None:
    entries = {entry.key.removeprefix(f"{run}/"): entry for entry in store.list(f"{run}/attempts/")}
    attempts = [key.split("/")[1] for key in entries if ATTEMPT.fullmatch(key.split("/")[1])]
    newest = f"attempts/{max(attempts)}" if attempts else ""
    told = next((f"{newest}/{name}.json" for name in ("end", "status", "claim") if f"{newest}/{name}.json" in entries), "run.json")
    age = max(now - max(entries[key].modified for key in entries if key.startswith(newest)), 0.0) if attempts else None
    try:
        found = json.loads(store.get(f"{run}/{told}"))
    except NotFound:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return Row(run=run, state="damaged", reason=f"{told} is not a JSON object", age=age)
    if told == "run.json":
        recipe = found.get("recipe", {})
        return Row(run=run, state="interrupted", reason="no attempt has begun", recipe=recipe.get("name"), epochs=recipe.get("epochs"))
    if told.endswith("end.json"):
        state = _ended(found.get("exit_code"))
        return Row(run=run, state=state, reason=found.get("reason"), age=age, epoch=found.get("epoch"), **_known(found))
    running = age is not None and age < SILENT
    reason = None if running else "killed"
    return Row(run=run, state="running" if running else "interrupted", reason=reason, age=age, epoch=found.get("epoch"), **_known(found))


def _ended(code: Any) -> str:
    return "finished" if code == Exit.DONE else "interrupted" if code in INTERRUPTED else "failed"


def _known(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found.get(key) for key in ("engine", "recipe", "epochs", "test_accuracy", "images_per_second")}
