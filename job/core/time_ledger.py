"""Where the time goes: every second of an attempt counts towards exactly one purpose.

    with ledger.spend("step"):
        engine.step(…)

Purposes nest; an inner one's time does not count towards the outer one.  Time without a purpose is "other", so the parts add up to the
whole.  Totals and finished epochs are stored in a checkpoint's state: after a resume they hold the time that led to that checkpoint, and
no lost work.
"""

import time
from collections.abc import Callable, Mapping
from typing import Self, get_args

from job.core.records import EpochSeconds, Purpose, Seconds, TimeLedgerState

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
"""start-up: each attempt's time until its first step.  data: the plans of the steps.  step: handing work to the device and waiting for it.
checkpoint stall: training waits while a checkpoint is written.  upload wait: training waits until the spool has room for one."""


class TimeLedger:
    """Seconds by purpose, of one attempt and the earlier ones that it continues.

    `before`: age of the process in seconds when the ledger is made; it counts as start-up."""

    def __init__(self, *, before: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spends = {purpose: _Spend(self, purpose) for purpose in PURPOSES}
        self._open: Seconds = dict.fromkeys(PURPOSES, 0.0)
        """purpose → seconds since the end of the last epoch"""
        self._epochs: list[EpochSeconds] = []
        self._stack: list[Purpose] = ["other"]
        self._since = clock()
        self._process_start = self._since - before
        self._open["start-up"] += before

    def spend(self, purpose: Purpose) -> "_Spend":
        """A context manager that counts its time towards `purpose`.  Raises KeyError for an unknown one."""
        return self._spends[purpose]

    @property
    def wall_seconds(self) -> float:
        """Since the start of this attempt's process."""
        return self._clock() - self._process_start

    @property
    def epochs(self) -> list[EpochSeconds]:
        """Of each finished epoch."""
        return self._epochs

    def end_epoch(self) -> EpochSeconds:
        """Close the current epoch and start the next one.  Returns its entry: number and seconds by purpose."""
        self._book()
        entry: EpochSeconds = {"epoch": len(self._epochs) + 1, "seconds": _rounded(self._open)}
        self._epochs.append(entry)
        self._open = dict.fromkeys(PURPOSES, 0.0)
        return entry

    def totals(self) -> Seconds:
        """Purpose → seconds, over all attempts, without work that was lost."""
        self._book()
        parts = [self._open, *(entry["seconds"] for entry in self._epochs)]
        return {purpose: sum(part.get(purpose, 0.0) for part in parts) for purpose in PURPOSES}

    def state(self) -> TimeLedgerState:
        """For the checkpoint, as JSON values; `resume` reads it."""
        self._book()
        return {"epochs": self._epochs, "open": _rounded(self._open)}

    def resume(self, state: TimeLedgerState) -> None:
        """Continue from a checkpoint: add its seconds to those of this attempt.  `{}`: the checkpoint of a version without a ledger."""
        self._epochs = [entry.copy() for entry in state.get("epochs", ())]
        for purpose, seconds in state.get("open", {}).items():
            self._open[purpose] = self._open.get(purpose, 0.0) + seconds

    def _book(self) -> None:
        now = self._clock()
        self._open[self._stack[-1]] += now - self._since
        self._since = now


class _Spend:
    """One for each purpose, reused: to enter and leave it costs about a microsecond."""

    __slots__ = ("_ledger", "_purpose")

    def __init__(self, ledger: TimeLedger, purpose: Purpose) -> None:
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

    `totals` of the ledger hold only the steps that led to the result, `wall_seconds` all time of all attempts: steps that were lost with
    a killed attempt lower the goodput."""
    return min(totals["step"] / wall_seconds, 1.0) if wall_seconds > 0 else None


def _rounded(seconds: Seconds) -> Seconds:
    return {purpose: round(value, 6) for purpose, value in seconds.items()}
