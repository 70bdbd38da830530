"""Where the time goes, by a clock that the tests turn."""

import json
import time
from contextlib import suppress

import pytest

from job.core.time_ledger import PURPOSES, TimeLedger, goodput


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def spend(ledger, clock, purpose, seconds):
    with ledger.spend(purpose):
        clock.now += seconds


def some(**seconds):
    """All purposes, most of them zero."""
    names = {"start_up": "start-up", "checkpoint_stall": "checkpoint stall", "upload_wait": "upload wait"}
    return {**dict.fromkeys(PURPOSES, 0.0), **{names.get(name, name): value for name, value in seconds.items()}}


def test_every_second_is_booked_once(clock):
    ledger = TimeLedger(clock=clock)
    spend(ledger, clock, "data", 1)
    clock.now += 5
    with ledger.spend("evaluation"):
        clock.now += 2
        spend(ledger, clock, "upload wait", 3)
        clock.now += 4
    assert ledger.totals() == some(data=1, other=5, evaluation=6, upload_wait=3)
    assert sum(ledger.totals().values()) == ledger.wall_seconds == 15


def test_time_before_the_ledger_is_start_up(clock):
    ledger = TimeLedger(clock=clock, before=7.5)
    spend(ledger, clock, "start-up", 2)
    assert ledger.totals()["start-up"] == 9.5
    assert ledger.wall_seconds == 9.5


def test_an_exception_ends_the_booking(clock):
    ledger = TimeLedger(clock=clock)
    with suppress(RuntimeError), ledger.spend("step"):
        clock.now += 2
        raise RuntimeError
    clock.now += 1
    assert ledger.totals() == some(step=2, other=1)


def test_unknown_purposes_are_refused():
    with pytest.raises(KeyError):
        TimeLedger().spend("lunch")


def test_epochs(clock):
    ledger = TimeLedger(clock=clock)
    spend(ledger, clock, "step", 3)
    assert ledger.end_epoch() == {"epoch": 1, "seconds": some(step=3)}
    spend(ledger, clock, "step", 4)
    spend(ledger, clock, "checkpoint stall", 1)
    assert ledger.end_epoch()["seconds"] == some(step=4, checkpoint_stall=1)
    assert ledger.totals() == some(step=7, checkpoint_stall=1)
    assert [entry["epoch"] for entry in ledger.epochs] == [1, 2]


def test_a_resumed_run_adds_up_and_lost_work_does_not_count(clock):
    first = TimeLedger(clock=clock)
    spend(first, clock, "start-up", 10)
    spend(first, clock, "step", 30)
    first.end_epoch()
    spend(first, clock, "step", 5)
    stored = json.loads(json.dumps(first.state()))
    spend(first, clock, "step", 15)  # after the checkpoint: lost when the process is killed
    second = TimeLedger(clock=clock)
    spend(second, clock, "start-up", 8)
    second.resume(stored)
    spend(second, clock, "step", 25)
    entry = second.end_epoch()
    assert entry == {"epoch": 2, "seconds": some(start_up=8, step=30)}
    assert second.totals() == some(start_up=18, step=60)
    assert goodput(second.totals(), first_wall := 60 + second.wall_seconds) == pytest.approx(60 / first_wall)


def test_a_checkpoint_without_an_account_is_accepted(clock):
    ledger = TimeLedger(clock=clock)
    ledger.resume({})
    assert ledger.totals() == some()


def test_goodput():
    assert goodput(some(step=60, other=20), 100) == 0.6
    assert goodput(some(step=60), 0) is None


def test_it_costs_microseconds():
    """Entering and leaving, the best of five trials; 20 µs would be 0.1 % of a step of 20 ms."""
    ledger = TimeLedger()

    def seconds():
        begun = time.perf_counter()
        for _ in range(2000):
            with ledger.spend("step"):
                pass
        return (time.perf_counter() - begun) / 2000

    assert min(seconds() for _ in range(5)) < 20e-6
