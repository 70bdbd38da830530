"""Where the time goes, by a clock that the test moves."""

import pytest

from job.core.ledger import Ledger, goodput


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_every_second_is_booked_once(clock):
    ledger = Ledger(before=3.0, clock=clock)
    with ledger.spend("evaluation"):
        clock.now += 1
        with ledger.spend("checkpoint stall"):
            clock.now += 2
        clock.now += 4
    clock.now += 8
    totals = ledger.totals()
    assert {name: seconds for name, seconds in totals.items() if seconds} == {
        "start-up": 3.0,
        "evaluation": 5.0,
        "checkpoint stall": 2.0,
        "other": 8.0,
    }
    assert sum(totals.values()) == ledger.wall_seconds == 18.0


def test_an_unknown_purpose_is_refused(clock):
    with pytest.raises(KeyError):
        Ledger(clock=clock).spend("coffee")


def test_what_led_to_a_checkpoint_survives_and_lost_work_does_not(clock):
    first = Ledger(clock=clock)
    with first.spend("step"):
        clock.now += 10
    assert first.end_epoch(energy_joules=5.0)["seconds"]["step"] == 10.0
    with first.spend("step"):
        clock.now += 3
    stored = first.state()
    with first.spend("step"):
        clock.now += 50  # lost with the process
    second = Ledger(before=2.0, clock=clock)
    second.resume(stored)
    with second.spend("step"):
        clock.now += 7
    assert second.end_epoch()["seconds"]["step"] == 10.0
    totals = second.totals()
    assert (totals["step"], totals["start-up"]) == (20.0, 2.0)
    assert [epoch["epoch"] for epoch in second.epochs] == [1, 2]
    assert goodput(totals, 80.0) == 0.25
    assert goodput(totals, 0.0) is None
