"""The sampler, with real figures of this process and scripted GPUs."""

import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import job.telemetry.host
import job.telemetry.sampler
from job.telemetry.cgroup import Cgroup
from job.telemetry.host import Probe
from job.telemetry.sampler import SEGMENT_ROWS, Sampler, Totals, scalars
from tests.support.fake_nvml import Card, Nvml

ABSENT = Nvml([], failure=12)


class Log:
    """A sampler at work, and what it said and delivered."""

    def __init__(self, folder: Path, *, interval: float = 0.05, nvml=ABSENT, **options) -> None:
        self.delivered: list[Path] = []
        self.said: list[str] = []
        options = {"deliver": self.delivered.append, "say": self.said.append, **options}
        self.sampler = Sampler(folder / "attempt", interval=interval, nvml=nvml, **options)
        self.sampler.start()

    def run(self, seconds: float):
        time.sleep(seconds)
        self.facts = self.sampler.stop()
        return self

    def until(self, condition, seconds: float = 60.0):
        """Sample until the condition holds: a busy machine takes fewer samples than were asked for."""
        self.wait(condition, seconds)
        return self.run(0)

    def wait(self, condition, seconds: float = 60.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    @property
    def rows(self):
        return [json.loads(line) for path in self.delivered for line in path.read_text().splitlines()]


def test_rows_have_units_and_the_measured_interval(tmp_path):
    card = Card(uuid="GPU-a", memory=(3_000, 9_000), utilization=(50, 10), energy=5_000, power=200_000)
    begun, age = time.monotonic(), time.time() - psutil.Process().create_time()
    log = Log(tmp_path, nvml=Nvml([card]), gauges=lambda: {"step": 7, "spool_bytes": 5})
    log.until(lambda: len(log.sampler.rows) >= 8)
    assert 0 < sum(row["interval_seconds"] for row in log.rows) < time.monotonic() - begun
    row = log.rows[-1]
    assert abs(row["process_memory_bytes"] - psutil.Process().memory_info().rss) < 100e6
    assert age < row["process_seconds"] < time.time() - psutil.Process().create_time()
    assert (row["step"], row["spool_bytes"]) == (7, 5)
    assert row["gpus"][0]["utilization_percent"] == 50
    assert row["host_memory_total_bytes"] == psutil.virtual_memory().total
    for name in ("process_cpu_cores", "host_cpu_cores", "network_sent_bytes_per_second", "disk_written_bytes_per_second"):
        assert row[name] >= 0
    assert log.sampler.rows == log.rows


def test_facts(tmp_path):
    cards = [Card(uuid=f"GPU-{n}", memory=(3_000 + n, 9_000), utilization=(50 + n, 1), energy=5_000, power=200_000) for n in range(2)]
    log = Log(tmp_path, nvml=Nvml(cards))
    log.wait(lambda: log.sampler.energy_joules == 0)
    cards[0].energy = 25_000
    log.until(lambda: log.sampler.energy_joules == 20)
    facts = log.facts
    assert facts["peak_gpu_memory_bytes"] == 3_001
    assert facts["mean_gpu_utilization_percent"] == 50.5
    assert facts["mean_gpu_power_watts"] == 200
    assert facts["energy_joules"] == log.sampler.energy_joules == 20
    assert facts["peak_process_memory_bytes"] >= log.rows[-1]["process_memory_bytes"]
    assert facts["container"] == vars(Cgroup().limits())
    assert [gpu["uuid"] for gpu in facts["gpus"]] == ["GPU-0", "GPU-1"]
    assert facts == log.sampler.stop(), "asked again"


def test_a_run_shorter_than_an_interval_has_a_row(tmp_path):
    begun = time.monotonic()
    log = Log(tmp_path, interval=60.0).run(0.1)
    (row,) = log.rows
    assert 0.1 <= row["interval_seconds"] < time.monotonic() - begun


def test_a_sampler_that_never_started_can_be_stopped(tmp_path):
    said: list[str] = []
    sampler = Sampler(tmp_path, deliver=lambda _: None, say=said.append, nvml=ABSENT)
    assert "container" in sampler.stop()
    assert not said


def test_without_a_gpu_there_is_one_line_and_the_rest_goes_on(tmp_path):
    log = Log(tmp_path)
    log.until(lambda: log.sampler.rows and len(log.said) == 2)
    assert [line for line in log.said if "GPU" in line] == [
        "GPU: nothing to measure (NVML Shared Library Not Found); the resource log holds CPU, memory and I/O"
    ]
    assert log.rows
    assert not any("gpus" in row for row in log.rows)
    assert not {name for name in log.facts if "energy" in name or "gpu_" in name}


def test_a_lost_card_ends_its_rows_only(tmp_path):
    cards = [Card(uuid="GPU-a", memory=(1, 9)), Card(uuid="GPU-b", memory=(2, 9))]
    log = Log(tmp_path, nvml=Nvml(cards))

    def shown():
        return [gpu["index"] for row in log.sampler.rows[-1:] for gpu in row.get("gpus", ())]

    log.wait(lambda: shown() == [0, 1])
    cards[0].lost = True
    log.until(lambda: shown() == [1])
    assert len([line for line in log.said if "is lost" in line]) == 1


def test_cpu_shares_are_those_of_the_interval(tmp_path):
    """The rows' shares times their intervals are the CPU time that the process used."""
    log, begun = Log(tmp_path, interval=0.2), time.process_time()
    while time.process_time() - begun < 0.8:
        sum(range(1000))
    before = len(log.sampler.rows)
    log.until(lambda: len(log.sampler.rows) > before + 1)
    used = time.process_time() - begun
    assert sum(row["process_cpu_cores"] * row["interval_seconds"] for row in log.rows) == pytest.approx(used, rel=0.3)


@pytest.fixture
def clock(monkeypatch):
    """The probe's: it stands still until a test sets it."""
    stopped = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(job.telemetry.host, "time", SimpleNamespace(monotonic=lambda: stopped.seconds, time=time.time))
    return stopped


def test_disk_writes_of_this_process_are_seen(tmp_path, clock):
    probe = Probe(Cgroup())
    (tmp_path / "file").write_bytes(os.urandom(8_000_000))
    if not psutil.Process().io_counters().write_bytes:
        pytest.skip("this file system counts no writes (tmpfs)")
    clock.seconds = 2.0
    assert probe.sample()["disk_written_bytes_per_second"] >= 8_000_000 / 2


def test_loopback_is_no_network(monkeypatch, clock):
    counts = {"lo": SimpleNamespace(bytes_sent=0, bytes_recv=0), "eth0": SimpleNamespace(bytes_sent=0, bytes_recv=0)}
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: counts)
    probe = Probe(Cgroup())
    counts["lo"].bytes_sent, counts["eth0"].bytes_sent, counts["eth0"].bytes_recv = 1_000_000_000, 7_000, 9_000
    clock.seconds = 2.0
    row = probe.sample()
    assert row["interval_seconds"] == 2
    assert [row[f"network_{name}_bytes_per_second"] for name in ("sent", "received")] == [3_500, 4_500]


def test_segments_are_bounded_in_lines(tmp_path):
    log = Log(tmp_path, interval=0.01)
    log.until(lambda: len(log.delivered) >= 2)
    lengths = [len(path.read_text().splitlines()) for path in log.delivered]
    assert set(lengths[:-1]) == {SEGMENT_ROWS}
    assert [path.name for path in log.delivered[:2]] == ["resources-0001.jsonl", "resources-0002.jsonl"]
    times = [row["time"] for row in log.rows]
    assert times == sorted(times)


def test_segments_are_bounded_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(job.telemetry.sampler, "SEGMENT_SECONDS", 0.3)
    log = Log(tmp_path, interval=0.1)
    log.until(lambda: len(log.delivered) >= 3)
    assert max(len(path.read_text().splitlines()) for path in log.delivered) <= 4


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("job.core.thinning.ROWS", 16)
    log = Log(tmp_path, interval=0.005)
    log.until(lambda: len(log.delivered) >= 2)
    assert 8 <= len(log.sampler.rows) <= 16
    assert log.sampler.rows[-1]["time"] == log.rows[-1]["time"]
    assert sum(row["interval_seconds"] for row in log.sampler.rows) == pytest.approx(sum(row["interval_seconds"] for row in log.rows))


def test_a_broken_gauge_costs_its_own_fields_only(tmp_path):
    def broken():
        raise RuntimeError("a gauge broke")

    log = Log(tmp_path, gauges=broken)
    log.until(lambda: len(log.sampler.rows) >= 2)
    assert [line for line in log.said if "gauge" in line] == ["resource log without figures of the training: RuntimeError: a gauge broke"]


def test_a_broken_source_costs_its_own_fields_only(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda real=psutil.virtual_memory: real())
    probe = Probe(Cgroup())

    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr(psutil, "net_io_counters", refused)
    row = probe.sample()
    assert "network_sent_bytes_per_second" not in row
    assert "process_memory_bytes" in row


def test_a_segment_that_cannot_be_written_is_told_once(tmp_path):
    (tmp_path / "attempt").write_text("a file where the folder should be")
    log = Log(tmp_path, interval=0.005)
    log.until(lambda: len(log.sampler.rows) > 2 * SEGMENT_ROWS)
    assert not log.delivered
    assert len([line for line in log.said if "was not stored" in line]) == 1
    assert log.facts["peak_process_memory_bytes"] > 0


def test_a_delivery_that_fails_is_told_once_and_sampling_goes_on(tmp_path):
    def refuse(_: Path) -> None:
        raise RuntimeError("the spool is closed")

    log = Log(tmp_path, interval=0.005, deliver=refuse)
    log.until(lambda: len(log.sampler.rows) > 2 * SEGMENT_ROWS)
    assert [line for line in log.said if "stored" in line] == ["resource log: resources-0001.jsonl was not stored (the spool is closed)"]


def test_the_container_s_limits_are_told_at_the_start(tmp_path):
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    for name, text in (("cgroup.procs", ""), ("cpu.max", "150000 100000"), ("memory.max", "3221225472"), ("memory.current", "1000")):
        (folder / name).write_text(text)
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    log = Log(tmp_path, cgroup=Cgroup(tmp_path, tmp_path)).run(0.2)
    assert log.said[0].startswith("machine: the container may use 1.5 CPUs and 3.22 GB of memory (cgroups: v2); the node has ")
    assert log.rows[0]["container_memory_limit_bytes"] == 3221225472
    assert log.rows[0]["container_cpu_limit_cores"] == 1.5


def test_a_limit_that_changes_meanwhile_is_seen(tmp_path):
    (tmp_path / "mountinfo").write_text("30 23 0:26 / /group rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "group").mkdir()
    (tmp_path / "group/cpu.max").write_text("30000 100000")
    probe = Probe(Cgroup(tmp_path, tmp_path))
    (tmp_path / "group/cpu.max").write_text("4000 100000")
    assert probe.sample()["container_cpu_limit_cores"] == 0.04
    assert probe.limits.cpus == 0.04


def test_totals_weigh_by_time():
    totals = Totals()
    throttled = "container_throttled_seconds_per_second"
    totals.add({"interval_seconds": 1.0, "process_cpu_cores": 1.0, throttled: 0.5, "container_out_of_memory_kills": 0})
    totals.add({"interval_seconds": 3.0, "process_cpu_cores": 2.0, throttled: 0.1, "container_out_of_memory_kills": 1})
    totals.add({"interval_seconds": 2.0})
    assert totals.facts() == {
        "mean_process_cpu_cores": 1.75,
        "container_throttled_seconds": 0.8,
        "container_out_of_memory_kills": 1,
    }


def test_scalars_for_tensorboard():
    row = {"time": 5.0, "step": 7, "attempt": "a", "process_memory_bytes": 3, "gpus": [{"index": 1, "power_watts": 200.0, "mig": True}]}
    assert list(scalars([row])) == [(5.0, 7, {"machine/process_memory_bytes": 3.0, "gpu1/power_watts": 200.0})]


def test_it_costs_little(tmp_path):
    """0.5 % of a core is 5 ms for each sample.  The whole thread, as it measures itself, at ten samples a second so that there are many."""
    cards = [
        Card(uuid=f"GPU-{n}", memory=(1, 9), utilization=(50, 1), power=1, energy=1, temperature=1, clocks=(1, 1), reasons=0)
        for n in range(8)
    ]
    log = Log(tmp_path, interval=0.1, nvml=Nvml(cards))
    log.until(lambda: len(log.sampler.rows) >= 20)
    lasted = sum(row["interval_seconds"] for row in log.rows)
    assert log.facts["sampler_cpu_share"] * lasted / len(log.rows) < 0.005


def test_nobody_waits_for_its_threads():
    assert all(thread.daemon for thread in threading.enumerate() if thread.name in ("sampler", "gpu"))
