"""What the engines ask of the machine."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from job.engines.host import computes_in_bf16

FAULTS = """
import resource
from job.engines.host import keep_freed_memory
{keep}
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 << 20)
    block[::4096] = bytes(len(block[::4096]))
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""how many pages the kernel hands out for a block of 64 MiB when another one was freed just before"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(("keep", "few"), [("keep_freed_memory()", True), ("", False)])
def test_what_was_freed_is_used_again(keep: str, few: bool) -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 1000) is few, done.stdout


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx512f avx512_vnni", False), ("", False)],
)
def test_bf16_is_read_from_the_flags(tmp_path: Path, flags: str, expected: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: avx512_bf16 by name only\nflags\t\t: {flags}\n")
    assert computes_in_bf16(path) is expected


def test_where_the_flags_are_unknown_it_is_no(tmp_path: Path) -> None:
    assert not computes_in_bf16(tmp_path / "nothing")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert not computes_in_bf16(tmp_path / "arm")
