"""The resource samples of long runs and of hostile ones: read in order, in bounded memory, and none ends anything."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from job.analysis.previous_attempt import describe_previous_attempt
from job.runs.resource_log import last_row, resources_of
from job.runs.run import Run
from job.storage.folder import FolderStore
from tests.support.records import claim

FIRST, SECOND = "0001-aaaaaa", "0002-bbbbbb"
GPU = {"index": 0, "memory_used_bytes": 4 * 10**10, "utilization_percent": 97, "power_watts": 650.5, "throttle_reasons": ["power_cap"]}


def sample(time: int) -> dict[str, Any]:
    figures = {"process_memory_bytes": 10**9 + time, "process_cpu_cores": 3.1, "host_memory_used_bytes": 10**10}
    return {"time": float(time), "interval_seconds": 1.0, "step": 10 * time, "epoch": 0, "spool_bytes": 0, **figures, "gpus": [GPU]}


def store(folder: Path, attempt: str, seconds: int, of: int = 25) -> None:
    """Samples of each second, in segments as a run's."""
    place = folder / "r" / "attempts" / attempt
    place.mkdir(parents=True)
    for number, begin in enumerate(range(0, seconds, of), 1):
        lines = [json.dumps(sample(time)) + "\n" for time in range(begin, min(begin + of, seconds))]
        (place / f"resources-{number:04d}.jsonl").write_text("".join(lines))


class Counting(FolderStore):
    """How many objects were asked for, of which attempts, by which threads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: list[str] = []
        self.threads: set[int] = set()

    def get(self, key: str, limit: int | None = None) -> bytes:
        self.keys.append(key)
        self.threads.add(threading.get_ident())
        return super().get(key, limit)


def test_own_rows_are_not_fetched(tmp_path: Path) -> None:
    """The attempt that ends a run has them already."""
    store(tmp_path, FIRST, 300)
    store(tmp_path, SECOND, 300)
    counted = Counting(tmp_path)
    rows = [*resources_of(Run(counted, "r"), but_for=SECOND)]
    assert [(row["attempt"], row["time"]) for row in rows] == [(FIRST, float(time)) for time in range(300)]
    assert not [key for key in counted.keys if SECOND in key]
    assert threading.get_ident() not in counted.threads, "in parallel"


def test_the_order_of_more_segments_than_four_digits_count(tmp_path: Path) -> None:
    place = tmp_path / "r" / "attempts" / FIRST
    place.mkdir(parents=True)
    for number in (9998, 9999, 10000, 10001):
        (place / f"resources-{number}.jsonl").write_text(json.dumps(sample(number)) + "\n")
    run = Run(FolderStore(tmp_path), "r")
    assert [row["time"] for row in resources_of(run)] == [9998, 9999, 10000, 10001]
    newest = last_row(run, FIRST)
    assert newest is not None
    assert newest["time"] == 10001


def test_what_is_no_segment_of_ours_is_passed_over(tmp_path: Path) -> None:
    """Far too long, deleted while it is read, no text, lines that would fill memory: the rest counts, and nobody ends for it."""
    store(tmp_path, FIRST, 25)
    place = tmp_path / "r" / "attempts" / FIRST
    (place / "claim.json").write_text(json.dumps(claim()))
    with (place / "resources-0002.jsonl").open("wb") as file:
        file.truncate(100 << 20)
    (place / "resources-0003.jsonl").write_bytes(bytes(range(256)))
    long = {**sample(7), "gpus": [{**GPU, "throttle_reasons": ["x" * 100_000]}]}
    (place / "resources-0004.jsonl").write_text(json.dumps(long) + "\n" + json.dumps(sample(30)) + "\n")
    beyond = [{**sample(8), "interval_seconds": 1e308}, {**sample(9), "gpus": [{**GPU, "power_watts": -1e308}]}]
    (place / "resources-0007.jsonl").write_text("".join(json.dumps(row) + "\n" for row in beyond))
    (place / "resources-0005.jsonl").write_text("[" * 100_000)
    (place / "resources-x.jsonl").write_text(json.dumps(sample(31)) + "\n")
    run = Run(FolderStore(tmp_path), "r")
    assert [row["time"] for row in resources_of(run)] == [*range(25), 30]
    (place / "resources-0008.jsonl").write_bytes((place / "resources-0002.jsonl").read_bytes())
    run.attempt = SECOND
    assert describe_previous_attempt(run) == f"attempt {FIRST} ended without a word: killed, or its node was lost"


def test_memory_does_not_grow_with_the_time(tmp_path: Path) -> None:
    """In a process of its own, since threads that other tests left allocate as well."""
    store(tmp_path, FIRST, 9000)
    measured = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    rows, most, peak = map(int, measured.stdout.split())
    assert 32 <= rows < 64
    assert most == 10**9 + 8999
    assert peak < 15_000_000, "9,000 rows have 27 MB; the segments that are fetched at a time take some of the rest"


PEAK = """
import sys, tracemalloc
from pathlib import Path
from job.core import thinning
from job.runs.resource_log import resources_of
from job.runs.run import Run
from job.storage.folder import FolderStore
thinning.ROWS = 64
run = Run(FolderStore(Path(sys.argv[1])), "r")
resources_of(run)  # what is imported for it stays
tracemalloc.start()
rows = [*resources_of(run)]
print(len(rows), max(row["process_memory_bytes"] for row in rows), tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_a_day(tmp_path: Path) -> None:
    """In a process of its own, since a process remembers its peak."""
    store(tmp_path, FIRST, 24 * 3600)
    grown = subprocess.run([sys.executable, "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 60 << 20


GROWTH = f"""
import resource, sys
from pathlib import Path
from job.runs.resource_log import resources_of
from job.runs.run import Run
from job.storage.folder import FolderStore
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = [*resources_of(Run(FolderStore(Path(sys.argv[1])), "r"))]
assert 2048 <= len(rows) < 4096
print({1 if sys.platform == "darwin" else 1024} * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
