"""A main thread that hangs does not keep the attempt from ending well."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from job.core.exits import Exit, JobError
from job.runs.run import Run
from job.storage.folder import FolderStore
from job.training.stopping import Stopped, StopSignal
from job.training.watchdog import Limits, Pace, Watchdog
from tests.support.records import claim
from tests.support.trainer import STEPS

LIMITS = Limits(least=300.0, factor=20.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """After a first step of 60 s, and ten more of 30 s each."""
    made = Pace(LIMITS, clock)
    made.begin()
    for seconds in (60.0, *[30.0] * 10):
        clock.now += seconds
        made.step()
        made.read()
    return made


def test_the_first_step_may_take_as_long_as_it_likes(clock: Clock) -> None:
    pace = Pace(LIMITS, clock)
    pace.begin()
    clock.now += 86_400
    assert pace.overdue() is None
    pace.step()
    clock.now += 86_400
    assert pace.overdue() is None, "the device may still be at it"


def test_a_stall_is_many_times_the_median_step(pace: Pace, clock: Clock) -> None:
    assert pace.step_seconds == 30.0
    clock.now += 599
    assert pace.overdue() is None
    clock.now += 2
    assert pace.overdue() == 601


def test_the_first_step_at_another_image_size_may_take_as_long_as_well(pace: Pace, clock: Clock) -> None:
    pace.begin()
    clock.now += 86_400
    assert pace.overdue() is None
    pace.step()
    pace.read()
    clock.now += 20 * 86_400 - 1
    assert pace.overdue() is None, "this is how long steps take now"


def test_of_short_steps_it_is_some_minutes(clock: Clock) -> None:
    pace = Pace(LIMITS, clock)
    for _ in range(9):
        clock.now += 0.01
        pace.step()
        pace.read()
    clock.now += 299
    assert pace.overdue() is None
    clock.now += 2
    assert pace.overdue()


def test_steps_in_hand_take_their_time(pace: Pace, clock: Clock) -> None:
    """A reading waits for all steps that the device was given."""
    for _ in range(50):
        pace.step()
    clock.now += 20 * 30 * 50
    assert pace.overdue() is None
    clock.now += 20 * 30 + 1
    assert pace.overdue()


def test_batches_of_the_evaluation_are_signs_and_what_waits_for_the_store_is_not_watched(pace: Pace, clock: Clock) -> None:
    for _ in range(5):
        clock.now += 500
        pace.sign()
        assert pace.overdue() is None
    with pace.off():
        clock.now += 86_400
        assert pace.overdue() is None
    clock.now += 500
    assert pace.overdue() is None
    assert pace.step_seconds == 30.0, "what was off does not count"
    clock.now += 101
    assert pace.overdue()


class FakeAttempt:
    """What the watchdog asks of an attempt."""

    def __init__(self, stop: StopSignal) -> None:
        self.stop, self.claim, self.settling = stop, claim(node="node-7", device="NVIDIA H100"), False
        self.errors: list[Any] = []

    def abandon(self, error: JobError | Stopped) -> Exit:
        self.errors.append(error)
        return error.code if isinstance(error, JobError) else Exit.TERMINATED

    def code_after_stop(self) -> Exit:
        return Exit.NOT_STORED


@pytest.fixture
def watched(pace: Pace, clock: Clock) -> tuple[FakeAttempt, Watchdog, list[int]]:
    attempt: Any = FakeAttempt(StopSignal(grace=30.0))
    codes: list[int] = []
    return attempt, Watchdog(attempt, pace, LIMITS, clock=clock, leave=codes.append), codes


def test_a_stall_ends_the_attempt_and_names_the_node(watched: Any, clock: Clock) -> None:
    attempt, watchdog, codes = watched
    watchdog.check()
    assert codes == []
    clock.now += 720
    watchdog.check()
    assert codes == [Exit.DEVICE]
    (error,) = attempt.errors
    assert str(error).startswith(
        "no step for 12 min on node-7 (NVIDIA H100), where the median one takes 30 s: the device or its driver hangs."
    )


def signalled(attempt: FakeAttempt, clock: Clock) -> None:
    attempt.stop.number, attempt.stop.at = signal.SIGTERM, clock.now


def test_a_signal_that_is_not_acted_upon(watched: Any, clock: Clock) -> None:
    """A third of the grace period after it, time enough for what waits to be delivered."""
    attempt, watchdog, codes = watched
    signalled(attempt, clock)
    clock.now += 9
    watchdog.check()
    assert codes == []
    clock.now += 2
    watchdog.check()
    assert codes == [Exit.TERMINATED]
    assert isinstance(attempt.errors[0], Stopped)


def test_outside_of_steps_it_waits_longer(watched: Any, pace: Pace, clock: Clock) -> None:
    """Figures are being drawn, say."""
    attempt, watchdog, codes = watched
    with pace.off():
        signalled(attempt, clock)
        clock.now += 22
        watchdog.check()
        assert codes == []
        clock.now += 2
        watchdog.check()
        assert codes == [Exit.TERMINATED]


def test_an_end_that_outlasts_the_grace_period(watched: Any, clock: Clock) -> None:
    attempt, watchdog, codes = watched
    signalled(attempt, clock)
    attempt.settling = True
    clock.now += 28.5
    watchdog.check()
    assert codes == []
    clock.now += 1
    watchdog.check()
    assert (codes, attempt.errors) == ([Exit.NOT_STORED], [])


def test_signals_are_noted_where_their_handler_does_not_run(watched: Any) -> None:
    attempt, watchdog, _ = watched
    noted = threading.Event()
    note = attempt.stop.note

    def remember(number: int) -> None:
        note(number)
        noted.set()

    attempt.stop.note = remember
    signal.signal(signal.SIGTERM, lambda *_: None)
    with watchdog:
        signal.raise_signal(signal.SIGTERM)
        assert noted.wait(30)
    assert attempt.stop.number == signal.SIGTERM


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Any]:
    """Starts a process whose step hangs."""
    started: list[subprocess.Popen[str]] = []

    def start(step: int, grace: float, least: float) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tests.support.hanging", str(tmp_path), *map(str, (step, grace, least))]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert started[0].stdout
        assert started[0].stdout.readline() == "hangs\n"
        return started[0]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def left(tmp_path: Path) -> tuple[list[int], dict[str, Any]]:
    """Steps of the stored checkpoints, and end.json."""
    store = FolderStore(tmp_path / "runs")
    (attempt,) = store.folders("r/attempts/")
    return [name.step for name in Run(store, "r").checkpoint_names()], json.loads(store.get(f"r/attempts/{attempt}/end.json"))


def test_a_step_that_hangs_in_c(hanging: Any, tmp_path: Path) -> None:
    process = hanging(step=STEPS + 2, grace=30.0, least=0.5)
    _, said = process.communicate(timeout=120)
    assert process.returncode == Exit.DEVICE, said
    checkpoints, end = left(tmp_path)
    assert (checkpoints, end["exit_code"], end["step"]) == ([STEPS, 4], Exit.DEVICE, STEPS + 1)
    assert "the device or its driver hangs" in end["reason"]
    assert "in hang" in said, "where the main thread is"


def test_sigterm_finds_the_main_thread_stuck(hanging: Any, tmp_path: Path) -> None:
    process = hanging(step=STEPS + 2, grace=6.0, least=600.0)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == Exit.TERMINATED, said
    checkpoints, end = left(tmp_path)
    assert (checkpoints, end["exit_code"], end["reason"]) == ([STEPS, 4], Exit.TERMINATED, "stopped by SIGTERM")
    assert f"a checkpoint of step {STEPS} is stored" in said


def test_sigterm_before_any_progress_finds_it_stuck(hanging: Any, tmp_path: Path) -> None:
    process = hanging(step=1, grace=4.0, least=600.0)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == Exit.NOT_STORED
    assert left(tmp_path)[1]["reason"] == "stopped by SIGTERM before any progress"
