"""Where the time goes: every second of an attempt is booked to exactly one purpose.

    with ledger.spend("step"):
        engine.step(…)

Purposes may be nested; the inner one's time is not the outer one's.  What no purpose claims is "other", so the parts add up to the whole.
Totals and finished epochs travel in the checkpoint's state: after a resume they hold what led to that checkpoint, and no lost work.
"""

import time
from collections.abc import Callable, Mapping
from typing import Self, get_args

from job.core.records import EpochSeconds, Purpose, Seconds, TimeLedgerState

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
"""start-up: until the first step, of each attempt.  data: plans of steps.  step: handing work to the device and waiting for it.
checkpoint stall: training stands still while a checkpoint is written.  upload wait: … while the store takes what is waiting."""


class Ledger:
    """The account of one attempt, and of what earlier ones contributed.  `before`: seconds that the process had lived already."""

    def __init__(self, *, before: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spends = {purpose: _Spend(self, purpose) for purpose in PURPOSES}
        self._open: Seconds = dict.fromkeys(PURPOSES, 0.0)
        """seconds since the last epoch's end"""
        self._epochs: list[EpochSeconds] = []
        self._stack: list[Purpose] = ["other"]
        self._since = clock()
        self._begun = self._since - before
        self._open["start-up"] += before

    def spend(self, purpose: Purpose) -> "_Spend":
        """A context whose time is booked to the purpose.  KeyError for an unknown one."""
        return self._spends[purpose]

    @property
    def wall_seconds(self) -> float:
        """Since this attempt's process began."""
        return self._clock() - self._begun

    @property
    def epochs(self) -> list[EpochSeconds]:
        """Of each finished epoch."""
        return self._epochs

    def end_epoch(self) -> EpochSeconds:
        """Close the epoch's account, and return it."""
        self._book()
        entry: EpochSeconds = {"epoch": len(self._epochs) + 1, "seconds": _rounded(self._open)}
        self._epochs.append(entry)
        self._open = dict.fromkeys(PURPOSES, 0.0)
        return entry

    def totals(self) -> Seconds:
        """Purpose → seconds, of everything that led to here, over all attempts."""
        self._book()
        parts = [self._open, *(entry["seconds"] for entry in self._epochs)]
        return {purpose: sum(part.get(purpose, 0.0) for part in parts) for purpose in PURPOSES}

    def state(self) -> TimeLedgerState:
        """What `resume` takes, as JSON."""
        self._book()
        return {"epochs": self._epochs, "open": _rounded(self._open)}

    def resume(self, state: TimeLedgerState) -> None:
        """Go on from a checkpoint: its account is added to what this attempt has booked so far.  `{}`: from a version without one."""
        self._epochs = [entry.copy() for entry in state.get("epochs", ())]
        for purpose, seconds in state.get("open", {}).items():
            self._open[purpose] = self._open.get(purpose, 0.0) + seconds

    def _book(self) -> None:
        now = self._clock()
        self._open[self._stack[-1]] += now - self._since
        self._since = now


class _Spend:
    """One for each purpose, used again and again: entering and leaving cost about a microsecond."""

    __slots__ = ("_ledger", "_purpose")

    def __init__(self, ledger: Ledger, purpose: Purpose) -> None:
        self._ledger, self._purpose = ledger, purpose

    def __enter__(self) -> Self:
        self._ledger._book()
        self._ledger._stack.append(self._purpose)
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger._book()
        self._ledger._stack.pop()


def goodput(totals: Mapping[Purpose, float], wall_seconds: float) -> float | None:
    """Share of all attempts' wall time that was productive step time, 0 to 1; None without time.

    `totals` of the ledger hold only steps that led to the result, `wall_seconds` all time that was spent: what was lost with a killed
    attempt counts against it."""
    return min(totals["step"] / wall_seconds, 1.0) if wall_seconds > 0 else None


def _rounded(seconds: Seconds) -> Seconds:
    return {purpose: round(value, 6) for purpose, value in seconds.items()}
