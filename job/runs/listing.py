"""All runs of a store at a glance.

A finished run costs one request, the GET of its summary; another one a listing of its attempts and a GET of the one object that tells
most.  No run costs more than one object.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context

from job.core.exits import Exit, JobError
from job.core.identity_records import Claim
from job.core.records import End, PlatformSpeed, RunRecord, Status, Summary
from job.runs.contributions import engine_names
from job.runs.reading import NewerFormatError, read_record
from job.runs.run import ATTEMPT, RUN_ID
from job.storage.errors import NotFound, StoreError
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.store import Store

SILENT = 120.0
"""seconds without a new status.json after which an attempt counts as gone; it writes one every 30"""
STALLED = 600.0
"""seconds without a step after which an attempt that gives signs of life is called stalled"""
INTERRUPTED = (Exit.INTERRUPTED, Exit.TERMINATED, Exit.NOT_STORED, Exit.SUPERSEDED, Exit.UNREACHABLE)
"""exit codes after which the same command continues"""
THREADS = 8
WORTH_A_PROCESS = 250
"""runs for which it pays to start another process: a request keeps Python busy for 2 ms, during which its other threads wait"""
STATES = ("running", "stalled", "interrupted", "failed", "finished", "damaged", "newer version")
MANY = 20
"""folders that are looked into for runs one level down"""
SHARE = 20
"""runs that a process takes at a time; it keeps two more in hand, for which the others wait at the end"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one object of a run told."""

    run: str
    state: str
    """one of STATES; damaged where that object is not what its type says"""
    reason: str | None = None
    """why it ended, where that is known"""
    exit_code: int | None = None
    """of the newest attempt, where it ended"""
    engine: str | None = None
    """`torch → tensorflow` where the run went on in another"""
    recipe: str | None = None
    epoch: int | None = None
    """epochs done"""
    epochs: int | None = None
    """that it shall have"""
    test_accuracy: float | None = None
    images_per_second: float | None = None
    speeds: list[PlatformSpeed] | None = None
    """of a finished run: that of each engine and device that took steps"""
    begun: float | None = None
    """when its first attempt began, in seconds since 1970, by the store's clock"""
    seconds: float | None = None
    """that its attempts took, if it is finished; else from its beginning to its last sign of life"""
    age: float | None = None
    """seconds since the last sign of life of a run that is not finished, by the store's clock"""

    @property
    def advice(self) -> str:
        """What there is to do, in one sentence; "" where there is nothing."""
        if self.exit_code == Exit.DIVERGED:
            return "The same command would diverge again: change the recipe, and give another --run-id."
        if self.state in ("interrupted", "failed"):
            return f"The same command with --run-id {self.run} continues it."
        return ""


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


def row_of(store: Store, run: str) -> Row | None:
    """One run.  None: there is none of this name."""
    return _row(store, run, store.now())


def runs_below(store: Store) -> list[str]:
    """The folders, of the first MANY of the store's place, that hold runs themselves."""
    folders = [name for name in store.folders() if not name.startswith(".")][:MANY]
    with ThreadPoolExecutor(THREADS) as pool:
        return [name for name, run in zip(folders, pool.map(lambda name: _holds_a_run(store, name), folders), strict=True) if run]


def _holds_a_run(store: Store, folder: str) -> bool:
    names = [name for name in store.folders(f"{folder}/") if RUN_ID.fullmatch(name)][:MANY]
    return any(store.list(f"{folder}/{name}/run.json") for name in names)


def sorted_rows(rows: Sequence[Row], key: str) -> list[Row]:
    """By a field, with the greatest accuracy, speed and epoch and the newest first and unknown values last."""
    greatest_first = key in ("test_accuracy", "images_per_second", "epoch", "begun")
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
        try:
            return _finished(run, read_record(store, f"{run}/summary.json", Summary))
        except NotFound:
            return _unfinished(store, run, now)
    except StoreError:
        raise
    except JobError as error:  # one bad object must not hide the other runs
        return Row(run=run, state="newer version" if isinstance(error, NewerFormatError) else "damaged", reason=str(error))


def _finished(run: str, summary: Summary) -> Row:
    return Row(
        run=run,
        state="finished",
        engine=engine_names(one["engine"] for one in summary.get("contributions", ())) or summary["engine"],
        recipe=summary["recipe"],
        epoch=summary["epochs"],
        epochs=summary["epochs"],
        test_accuracy=summary["test_accuracy"],
        images_per_second=summary["images_per_second"],
        speeds=summary.get("speeds"),
        begun=next((one["started"] for one in summary.get("contributions", ())), None),
        seconds=summary["wall_seconds"],
    )


def _unfinished(store: Store, run: str, now: float) -> Row | None:
    entries = {entry.key.removeprefix(f"{run}/"): entry for entry in store.list(f"{run}/attempts/")}
    attempts = [key.split("/")[1] for key in entries if ATTEMPT.fullmatch(key.split("/")[1])]
    newest = f"attempts/{max(attempts)}" if attempts else ""
    told = next((name for name in ("end", "status", "claim") if f"{newest}/{name}.json" in entries), "run")
    row = Row(run=run, state="interrupted", reason="killed")
    if attempts:
        begun = min(entry.modified for entry in entries.values())
        last = max(entries[key].modified for key in entries if key.startswith(newest))
        row = replace(row, begun=begun, seconds=last - begun, age=max(now - last, 0.0))
        if now - last < SILENT:
            row = replace(row, state="running", reason=None)
    key = f"{run}/run.json" if told == "run" else f"{run}/{newest}/{told}.json"
    try:
        match told:
            case "end":
                return _ended(row, read_record(store, key, End))
            case "status":
                return _perhaps_stalled(_at_work(row, found := read_record(store, key, Status)), found, now)
            case "claim":
                return replace(row, engine=read_record(store, key, Claim)["engine"])
            case _:
                return _not_begun(run, read_record(store, key, RunRecord))
    except NotFound:
        return None


def _not_begun(run: str, record: RunRecord) -> Row:
    recipe = record["recipe"]
    epochs = recipe.get("epochs")
    return Row(
        run=run,
        state="interrupted",
        reason="no attempt has begun",
        recipe=str(recipe.get("name", "")) or None,
        epochs=epochs if isinstance(epochs, int) else None,
    )


def _at_work(row: Row, status: Status) -> Row:
    return replace(
        row,
        engine=status["engine"],
        recipe=status["recipe"],
        epoch=status["epoch"],
        epochs=status["epochs"],
        test_accuracy=status["test_accuracy"],
        images_per_second=status["images_per_second"],
    )


def _perhaps_stalled(row: Row, status: Status, now: float) -> Row:
    """An attempt whose heart beats, but that takes no step."""
    last = status.get("last_step")
    if row.state != "running" or last is None or status["step"] >= status["steps"] or now - last < STALLED:
        return row
    return replace(row, state="stalled", reason=f"no step for {(now - last) / 60:.0f} min")


def _ended(row: Row, end: End) -> Row:
    code = end["exit_code"]
    state = "finished" if code == Exit.DONE else "interrupted" if code in INTERRUPTED else "failed"
    return replace(_at_work(row, end), state=state, reason=end["reason"], exit_code=code)
