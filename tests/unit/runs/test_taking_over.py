"""Two Jobs on one run: the later one looks whether the other lives.  The store's clock stands still until a test moves it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job.core.exits import Exit, JobError
from job.runs.run import Run
from job.runs.taking_over import POLL, SILENT, wait_for_other_job
from job.storage.folder import FolderStore

PLACE = {"engine": "torch", "device": "cpu", "cuda": None, "cudnn": None, "numpy": "2", "host": "h", "image": "", "started": 0.0}


class Clocked(FolderStore):
    """A store whose clock says `time`."""

    time = 1_000_000.0

    def put(self, key: str, data: bytes | Path) -> None:
        super().put(key, data)
        os.utime(self.root / key, (self.time, self.time))

    def now(self) -> float:
        return self.time


def claim(job: str | None) -> Any:
    """`job`: its name, and its uid after a colon."""
    name, _, uid = (job or "").partition(":")
    return {**PLACE, "namespace": "n", "job": name or None, "job_uid": uid or None}


def begun(store: Clocked, job: str | None) -> Run:
    run = Run(store, "r")
    run.claim(claim(job))
    return run


def wait(store: Clocked, job: str | None, at: dict[int, Callable[[], Any]] | None = None) -> tuple[float, list[str]]:
    """The seconds that a newcomer of this Job waited, and what it said.  `at`: what happens after so many looks."""
    said: list[str] = []
    looks, begin = iter(range(10_000)), store.time

    def sleep(seconds: float) -> None:
        store.time += seconds
        (at or {}).get(next(looks), lambda: None)()

    wait_for_other_job(Run(store, "r"), claim(job), said.append, sleep)
    return store.time - begin, said


@pytest.fixture
def store(tmp_path: Path) -> Clocked:
    return Clocked(tmp_path)


def test_another_jobs_attempt_that_lives_is_left_alone(store: Clocked) -> None:
    """It has beaten once, and beats again 30 s later."""
    other = begun(store, "a")
    with pytest.raises(JobError, match=r"attempt 0001-\w+ of the Job n/a is at work on it, so this Job, n/b, leaves it alone") as caught:
        wait(store, "b", {5: lambda: other.put_status({"step": 1})})  # type: ignore[typeddict-item]
    assert caught.value.code is Exit.SUPERSEDED
    other.raise_if_superseded()


def test_another_jobs_attempt_that_is_silent_is_taken_over_from(store: Clocked) -> None:
    lost = begun(store, "a")
    store.time += 10
    seconds, said = wait(store, "b")
    assert SILENT - 10 < seconds <= SILENT - 10 + 2 * POLL
    assert said == [f"run r: attempt {lost.attempt} of the Job n/a gave a sign of life 10 s ago; waiting for the next one"]
    begun(store, "b")
    with pytest.raises(JobError) as caught:
        lost.raise_if_superseded()
    assert caught.value.code is Exit.SUPERSEDED, "the lost pod that comes back"
    newer = Run(store, "r")
    with pytest.raises(JobError):
        wait(store, "a", {2: lambda: newer.store.put(newer.key("attempts", newer.attempts()[-1], "status.json"), b"{}")})


def test_its_own_jobs_attempt_and_those_of_no_job_are_not_waited_for(store: Clocked) -> None:
    begun(store, "a")
    assert wait(store, "a") == (0, []), "the pod that replaces one"
    assert wait(store, None) == (0, []), "a process that nobody starts again"
    begun(store, None)
    assert wait(store, "b") == (0, [])


def test_a_job_of_the_same_name(store: Clocked) -> None:
    """In another cluster, or applied again while the old one's pod has not ended yet."""
    other = begun(store, "a:1")
    with pytest.raises(JobError, match=r"of the Job n/a \(uid 1\) is at work on it, so this Job, n/a \(uid 2\), leaves it alone"):
        wait(store, "a:2", {5: lambda: other.put_status({"step": 1})})  # type: ignore[typeddict-item]
    assert wait(store, "a:1") == (0, []), "the pod that replaces one"
    assert wait(store, "b:1") == (0, []), "whatever it is called"
    assert wait(store, "a") == (0, []), "as far as one can know, where one of them does not tell"


def test_an_attempt_that_ended_is_not_waited_for(store: Clocked) -> None:
    other = begun(store, "a")
    assert wait(store, "b", {1: lambda: other.end({"exit_code": 143})})[0] == 2 * POLL  # type: ignore[typeddict-item]
    assert wait(store, "b") == (0, [])


def test_a_run_without_attempts(store: Clocked) -> None:
    assert wait(store, "a") == (0, [])
