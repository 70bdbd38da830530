"""Whoever looks on learns what a long wait is for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 5.0
"""seconds of silence that need no word"""


@contextmanager
def announced(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say "still …" once if the block takes longer than PATIENCE."""
    timer = threading.Timer(PATIENCE, say, [f"still {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
