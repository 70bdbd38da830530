"""The sampler, with real figures of this process and scripted GPUs."""

import json
import time
from pathlib import Path

import psutil

from job.io.resource_plots import draw_resources
from job.io.resources import SEGMENT_ROWS, Sampler
from tests.fake_nvml import device, make


def sampled(tmp_path: Path, seconds: float, interval: float = 0.05, **options):
    delivered: list[Path] = []
    sampler = Sampler(tmp_path / "a", deliver=delivered.append, say=lambda _: None, interval=interval, **options)
    sampler.start()
    time.sleep(seconds)
    return sampler.stop(), [json.loads(line) for path in delivered for line in path.read_text().splitlines()], delivered


def test_rows_have_units_and_the_measured_interval(tmp_path):
    card = device("GPU-a", memory=(3_000, 9_000), utilization=(50, 10), energy=5_000)
    facts, rows, _ = sampled(tmp_path, 0.6, nvml=make([card]), gauges=lambda: {"step": 7, "spool_bytes": 5})
    assert 5 <= len(rows) <= 13
    assert all(0.03 < row["interval_seconds"] < 0.3 for row in rows)
    assert abs(rows[-1]["process_memory_bytes"] - psutil.Process().memory_info().rss) < 100e6
    assert rows[-1]["step"] == 7
    assert rows[-1]["gpus"][0]["utilization_percent"] == 50
    assert facts["peak_gpu_memory_bytes"] == 3_000
    assert facts["energy_joules"] == 0.0
    assert facts["peak_process_memory_bytes"] >= rows[-1]["process_memory_bytes"]


def test_cpu_shares_are_those_of_the_interval(tmp_path):
    sampler = Sampler(tmp_path / "a", deliver=lambda _: None, say=lambda _: None, interval=0.2, nvml=make(None, driver=False))
    sampler.start()
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        sum(range(1000))
    sampler.stop()
    assert max(row["process_cpu_cores"] for row in sampler.rows) > 0.3


def test_segments_are_bounded(tmp_path):
    _, rows, delivered = sampled(tmp_path, 1.2, interval=0.01, nvml=make(None, driver=False))
    assert len(delivered) >= 2
    assert [len(path.read_text().splitlines()) for path in delivered[:-1]] == [SEGMENT_ROWS] * (len(delivered) - 1)
    assert [path.name for path in delivered[:2]] == ["resources-0001.jsonl", "resources-0002.jsonl"]
    times = [row["time"] for row in rows]
    assert times == sorted(times)


def test_errors_end_neither_the_sampler_nor_the_run(tmp_path):
    calls = []

    def gauges():
        calls.append(1)
        if len(calls) % 2:
            raise RuntimeError("a gauge broke")
        return {"step": len(calls)}

    _, rows, _ = sampled(tmp_path, 0.6, gauges=gauges, nvml=make(None, driver=False))
    assert len(rows) >= 2
    assert all(row["step"] % 2 == 0 for row in rows)


def test_a_full_disk_is_not_the_samplers_business(tmp_path):
    (tmp_path / "a").write_text("a file where the folder should be")
    facts, rows, delivered = sampled(tmp_path, 0.3, nvml=make(None, driver=False))
    assert not delivered
    assert not rows
    assert facts["peak_process_memory_bytes"] > 0


def test_it_costs_little(tmp_path):
    """Work per sample, as CPU time: 5 ms each second are 0.5 % of a core.  Here 100 samples; the bound is wide for a busy machine."""
    sampler = Sampler(tmp_path / "a", deliver=lambda _: None, say=lambda _: None, nvml=make(None, driver=False))
    begun = time.process_time()
    for _ in range(100):
        sampler._probe.sample()
    assert (time.process_time() - begun) / 100 < 0.02


def test_the_figure_has_a_panel_for_what_there_is(tmp_path):
    rows = [{"time": float(n), "process_cpu_cores": 1.0, "process_memory_bytes": 1e9, "epoch": n // 5} for n in range(20)]
    without = draw_resources(rows, tmp_path / "a.png", title="a")
    with_gpu = draw_resources([{**row, "gpus": [{"index": 0, "utilization_percent": 50}]} for row in rows], tmp_path / "b.png", title="b")
    assert without
    assert with_gpu
    assert height(with_gpu) > height(without)
    assert draw_resources([], tmp_path / "c.png", title="c") is None


def height(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[20:24], "big")
