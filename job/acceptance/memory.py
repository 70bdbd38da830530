"""The device's memory and the way to it: blocks that are copied, and patterns that must come back."""

import time
from collections.abc import Callable

from job.core.acceptance_records import Bandwidth, MemoryTest
from job.engines.probe import Probe

COPIES = 20
"""so many that one of them is undisturbed where others use the bus, or a quota of CPU time stops the process now and then"""
BLOCK_BYTES = 1 << 28
"""of a pattern, of which the check needs two more while it compares; at most"""
PATTERNS = ((0, 0x00000000), (0, 0xFFFFFFFF), (0, 0x55555555), (0, 0xAAAAAAAA), (0x9E3779B1, 0x7FEB352D))
"""(factor, value) of `Probe.pattern`: every bit both ways, beside equal and unequal neighbours; and words that tell their addresses"""


def bandwidth(probe: Probe, size: int) -> Bandwidth:
    """Of `size` bytes; the best of some copies, as others may use the bus meanwhile."""

    def best(copy: Callable[[], object]) -> float:
        copy()
        return min(probe.seconds(copy) for _ in range(COPIES))

    to_device, to_host, on_device = map(best, probe.copies(size))
    return {
        "bytes": size,
        "host_to_device_bytes_per_second": size / to_device,
        "device_to_host_bytes_per_second": size / to_host,
        "device_bytes_per_second": 2 * size / on_device,
    }


def patterns(probe: Probe, size: int, sign: Callable[[str], None], seconds: float) -> MemoryTest:
    """Write each pattern to `size` bytes, all of them before the first is read again, for as long as there is time for another."""
    block = min(size, BLOCK_BYTES) // 4
    count = size // (4 * block)
    wrong = done = 0
    begun = time.monotonic()
    for factor, value in PATTERNS:
        if time.monotonic() - begun < seconds:
            wrong += wrong_words(probe, block, count, factor, value)
            done += 1
            sign(f"memory, pattern {done} of {len(PATTERNS)}")
    return {"bytes": count * 4 * block, "patterns": done, "wrong_words": wrong}


def wrong_words(probe: Probe, block: int, count: int, factor: int, value: int) -> int:
    """Of one pattern in `count` blocks of `block` words, which are free again at the end."""
    held = [probe.pattern(block, factor, value ^ number) for number in range(count)]
    return sum(probe.wrong_words(one, factor, value ^ number) for number, one in enumerate(held))
