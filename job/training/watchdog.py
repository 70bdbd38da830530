"""Watches over the main thread, which a device that hangs can hold for ever: ends the attempt from a thread of its own.

Two things wake it: no step for much longer than steps take, and a signal that the main thread does not act upon.  A call that never
returns from the framework keeps Python from running its signal handler; the operating system's half of it, `signal.set_wakeup_fd`,
works all the same.
"""

import faulthandler
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Self

from job.core.exits import Exit, JobError
from job.training.attempt import Attempt
from job.training.stopping import SIGNALS, Stopped

Clock = Callable[[], float]
"""as `time.monotonic`"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How patient the watchdog is, in seconds."""

    least: float = 300.0
    """without a sign of progress that never count as a stall"""
    factor: float = 20.0
    """times what the steps in hand should take that do"""
    pause: float = 1.0
    """between two looks"""
    last: float = 1.0
    """after the grace period's deadline, when the process ends whatever is going on"""


PATIENT = Limits()


class Pace:
    """Signs of progress that the loop gives, and whether the next one is overdue.  It is off until a first step is done."""

    def __init__(self, limits: Limits, clock: Clock = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._seconds: deque[float] = deque(maxlen=50)
        """of a step, each the mean between two readings of the device"""
        self._in_hand = 0
        """steps that the device was given and that were not read yet"""
        self._read_at = self.at = clock()
        """`at`: of the last sign"""
        self.watched = False

    def begin(self) -> None:
        """The first step is about to be taken, or the first at another image size; how long it takes, with what the framework prepares, is
        the first guess of a step's time."""
        self._seconds.clear()
        self.watched = False
        self._read_at = self._clock()

    def step(self) -> None:
        """The device was given a step."""
        self._in_hand += 1
        self.sign()

    def read(self) -> None:
        """All steps in hand were read from the device."""
        if self._in_hand:
            self._seconds.append((self._clock() - self._read_at) / self._in_hand)
            self.watched = True
        self._in_hand = 0
        self._restart()

    def sign(self) -> None:
        """Something else was done by the device, such as a batch of the evaluation."""
        self.at = self._clock()

    @contextmanager
    def off(self) -> Iterator[None]:
        """What is done meanwhile takes as long as it takes: the store may be away."""
        watched, self.watched = self.watched, False
        try:
            yield
        finally:
            self._restart()
            self.watched = watched

    @property
    def step_seconds(self) -> float:
        """Of the median step."""
        return median(self._seconds) if self._seconds else 0.0

    def overdue(self) -> float | None:
        """Seconds since the last sign, where these are too many."""
        silence = self._clock() - self.at
        allowed = max(self._limits.least, self._limits.factor * self.step_seconds * (self._in_hand + 1))
        return silence if self.watched and silence > allowed else None

    def _restart(self) -> None:
        self._read_at = self._clock()
        self.sign()


class Watchdog:
    """`with Watchdog(attempt, pace, …):` in the main thread.  `leave` ends the process with a code, and does not come back."""

    def __init__(
        self, attempt: Attempt, pace: Pace, limits: Limits, *, clock: Clock = time.monotonic, leave: Callable[[int], object] = os._exit
    ) -> None:
        self._attempt, self._pace, self._limits, self._clock, self._leave = attempt, pace, limits, clock, leave
        self._stop = attempt.stop
        self._closing = threading.Event()
        self._wakeup, self._written = os.pipe()
        self._before = -1
        self._threads = [
            threading.Thread(target=work, name=f"watchdog {work.__name__}", daemon=True) for work in (self._look, self._listen)
        ]

    def __enter__(self) -> Self:
        os.set_blocking(self._written, False)
        self._before = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        signal.set_wakeup_fd(self._before)
        os.close(self._written)

    def check(self) -> None:
        """End the attempt where the main thread does not."""
        if not self._stop.requested:
            if silence := self._pace.overdue():
                self._end(self._stall(silence))
        elif self._attempt.settling:
            if self._clock() > self._stop.deadline() + self._limits.last:
                self._leave(self._attempt.code_after_stop())
        elif self._clock() > self._patience_ends():
            self._end(Stopped())

    def _patience_ends(self) -> float:
        """When a main thread that has not acted on a signal counts as stuck: in time for what waits to be delivered."""
        third = self._stop.grace / 3
        if self._pace.watched:
            return max(self._pace.at, self._stop.at) + third
        return self._stop.deadline() - min(5.0, third)

    def _stall(self, silence: float) -> JobError:
        claim = self._attempt.claim
        return JobError(
            Exit.DEVICE,
            f"no step for {duration(silence)} on {claim['node'] or claim['host']} ({claim['device']}), where the median one takes "
            f"{self._pace.step_seconds:.3g} s: the device or its driver hangs. Another node may do. What this one's kernel says: "
            "`dmesg | grep -i xid`.",
        )

    def _end(self, error: JobError | Stopped) -> None:
        with suppress(Exception):  # where a program has replaced stderr
            faulthandler.dump_traceback()
        if (code := self._attempt.abandon(error)) is not None:
            self._leave(code)

    def _look(self) -> None:
        while not self._closing.wait(self._limits.pause):
            self.check()

    def _listen(self) -> None:
        """Take note of signals as they arrive."""
        with os.fdopen(self._wakeup, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] in SIGNALS:
                    self._stop.note(number[0])


def duration(seconds: float) -> str:
    """Such as `12 min`."""
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.3g} s"
