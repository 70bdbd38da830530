"""SIGTERM, SIGHUP and Ctrl-C: the first signal asks the run to store its state and end; the grace period runs from then on."""

import math
import signal
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
MARGIN = 2.0
"""seconds of the grace period that are reserved for ending the process"""


class Stopped(BaseException):
    """A signal asked the run to stop; its text names what is not stored.  Not an Exception: libraries catch those and retry."""


class StopSignal:
    """Remembers the first signal; a second Ctrl-C raises KeyboardInterrupt.  Install it before a framework is imported.

    Until `defer()` is called there is nothing to store, so the first signal raises Stopped where it arrives.
    """

    def __init__(self, grace: float) -> None:
        self.number = 0
        """of the first signal; 0: none came"""
        self.at = math.inf
        """time.monotonic() of the first signal"""
        self.grace = grace
        """seconds between SIGTERM and SIGKILL"""
        self._deferred = self._received = False
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # with nohup a run outlives its terminal
            signal.signal(signal.SIGHUP, self._receive)

    def defer(self) -> None:
        """From now on a signal only sets `requested`, which the training loop reads after each step.  Raises Stopped if one came before."""
        self._deferred = True
        if self.requested:
            raise Stopped

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return bool(self.number)

    @property
    def name(self) -> str:
        """What the run was stopped by: `SIGTERM`, `SIGHUP` or `Ctrl-C`."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    def deadline(self) -> float:
        """The time.monotonic() by which everything must be stored; infinite without a signal."""
        return self.at + max(self.grace - MARGIN, self.grace / 2)

    def seconds_left(self) -> float:
        """Until the deadline; negative after it, infinite without a signal."""
        return self.deadline() - time.monotonic()

    def _receive(self, number: int, _: FrameType | None) -> None:
        again, self._received = self._received, True
        self.note(number)
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not again and not self._deferred:
            raise Stopped

    def note(self, number: int) -> None:
        """A signal has arrived; the first one counts.  From any thread: the main one may be stuck, so that `_receive` does not run."""
        if not self.number:
            self.number, self.at = number, time.monotonic()
