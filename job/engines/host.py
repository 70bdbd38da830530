"""What the engines ask of the machine they run on: memory that stays with the process, and whether the CPU computes in bf16."""

import ctypes
import platform
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""of glibc's malloc.h; mallopt(3)"""
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""of Linux's /proc/cpuinfo"""


def keep_freed_memory() -> None:
    """Let glibc's allocator reuse what a step frees.

    It would return blocks above 32 MiB to the kernel, which has to fill every page of the next step's with zeros: a fifth of the CPU time
    of a step (docs/performance.md).  Does nothing under another C library."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def computes_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has instructions for products of bf16 numbers (AVX512-BF16 or AMX).  False where `cpuinfo` does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not BF16_FLAGS.isdisjoint(flags)
