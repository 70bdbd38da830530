"""SIGTERM and Ctrl-C: the first one asks the run to store what it has and leave; a grace period runs from then on."""

import math
import signal
import time
from types import FrameType

MARGIN = 2.0
"""seconds of the grace period that are left for the way out"""


class Stopped(BaseException):
    """A signal asked the run to stop; its text says what is kept where.  No Exception: libraries catch those, and try again."""


class StopSignal:
    """Remembers the first signal; a second Ctrl-C ends at once.  Install it before a framework is imported.

    Until `gently()` is called there is nothing to store, so the first signal raises Stopped where it arrives.
    """

    def __init__(self, grace: float) -> None:
        self.number = 0
        self.at = math.inf
        """time.monotonic() of the first signal"""
        self.grace = grace
        self._gentle = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def gently(self) -> None:
        """From now on a signal only sets the flag, which the training loop reads after each step."""
        self._gentle = True
        if self.number:
            raise Stopped

    def __call__(self) -> bool:
        return bool(self.number)

    def deadline(self) -> float:
        """The time.monotonic() by which everything must be stored; infinite without a signal."""
        return self.at + max(self.grace - MARGIN, self.grace / 2)

    def left(self) -> float:
        return self.deadline() - time.monotonic()

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.number, self.at = number, time.monotonic()
        if not self._gentle:
            raise Stopped
