"""A long resource log in few rows: averages, peaks, last values and attempts stay what they were."""

import random
from itertools import pairwise
from typing import Any

import pytest

from job.core import thinning
from job.core.thinning import ThinnedRows, merged


def row(time: float, **figures: Any) -> Any:
    return {"time": time, "interval_seconds": 1.0, **figures}


def thinned(rows: list[Any]) -> list[Any]:
    found = ThinnedRows[Any]()
    for each in rows:
        found.add(each)
    return [*found]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "ROWS", 64)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 1000, 4096, 5001])
def test_averages_peaks_and_ends(count: int) -> None:
    chance = random.Random(count)
    rows = [
        row(
            float(n),
            interval_seconds=chance.uniform(0.5, 2.0),
            process_cpu_cores=chance.uniform(0, 4),
            process_memory_bytes=chance.randrange(10**9),
            container_memory_limit_bytes=3 * 10**9,
            container_cpu_limit_cores=1.5,
            step=10 * n,
            gpus=[{"index": 0, "utilization_percent": chance.randrange(101), "temperature_celsius": chance.randrange(90)}],
        )
        for n in range(count)
    ]
    found = thinned(rows)
    assert min(count, 32) <= len(found) < 64
    assert [r["time"] for r in found] == sorted(r["time"] for r in found)
    assert {name: found[-1][name] for name in ("time", "step")} == {name: rows[-1][name] for name in ("time", "step")}
    assert {(r["container_memory_limit_bytes"], r["container_cpu_limit_cores"]) for r in found} == {(3 * 10**9, 1.5)}

    def total(some: list[Any]) -> tuple[float, ...]:
        seconds = sum(r["interval_seconds"] for r in some)
        cores = sum(r["interval_seconds"] * r["process_cpu_cores"] for r in some)
        return seconds, cores, sum(r["interval_seconds"] * r["gpus"][0]["utilization_percent"] for r in some)

    assert total(found) == pytest.approx(total(rows))
    for peak in (lambda r: r["process_memory_bytes"], lambda r: r["gpus"][0]["temperature_celsius"]):
        assert max(map(peak, found)) == max(map(peak, rows))


def test_rows_are_of_about_the_same_length() -> None:
    found = thinned([row(float(n)) for n in range(3000)])
    assert {r["interval_seconds"] for r in found[:-1]} == {64.0}
    assert {b["time"] - a["time"] for a, b in pairwise(found[:-1])} == {64.0}


def test_attempts_stay_apart() -> None:
    rows = [row(float(n), attempt="a" if n < 101 else "b") for n in range(1000)]
    found = thinned(rows)
    assert [sum(r["interval_seconds"] for r in found if r["attempt"] == name) for name in "ab"] == [101, 899]
    assert len(thinned([row(float(n), attempt=str(n)) for n in range(200)])) == 200, "nothing to merge"


def test_what_only_one_of_them_has() -> None:
    """A figure that is taken every tenth second, a card that was lost, a reason: none goes, none is doubled."""
    before = row(1.0, gpus=[{"index": 0, "pcie_sent_bytes_per_second": 7}, {"index": 1, "memory_used_bytes": 5}])
    after = row(2.0, spool_bytes=3, gpus=[{"index": 0, "throttle_reasons": ["thermal"]}])
    gpus = [{"index": 0, "pcie_sent_bytes_per_second": 7, "throttle_reasons": ["thermal"]}, {"index": 1, "memory_used_bytes": 5}]
    assert merged(before, after) == {"time": 2.0, "interval_seconds": 2.0, "spool_bytes": 3, "gpus": gpus}


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_intervals_of_nothing(seconds: float) -> None:
    found = merged(row(1.0, interval_seconds=seconds, host_cpu_cores=1.0), row(1.0, interval_seconds=seconds, host_cpu_cores=3.0))
    assert found["host_cpu_cores"] == 2.0


def test_reasons_keep_their_share() -> None:
    """Of the seconds, not of the rows in which there was one."""
    chance = random.Random(1)
    rows = [row(float(n), gpus=[{"index": 0, "throttle_reasons": ["thermal"] if chance.random() < 0.05 else []}]) for n in range(10_000)]
    held = [r for r in thinned(rows) if r["gpus"][0]["throttle_reasons"]]
    assert len(held) < 0.2 * 64
