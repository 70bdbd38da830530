"""Each rule provoked, and silent where nothing is wrong."""

import json

import pytest

from job.analysis.diagnosis import findings
from job.analysis.previous_attempt import describe_previous_attempt, probably_out_of_memory
from job.core.time_ledger import PURPOSES
from job.runs.run import Run
from job.storage.files import encoded
from job.storage.folder import FolderStore

GPU = {
    "index": 0,
    "utilization_percent": 97,
    "throttle_reasons": [],
    "memory_used_bytes": 5_000_000_000,
    "memory_total_bytes": 80_000_000_000,
    "sm_clock_mhz": 1200,
}
HEALTHY = {
    "time": 0.0,
    "interval_seconds": 1.0,
    "process_cpu_cores": 1.0,
    "container_cpu_limit_cores": 4.0,
    "container_memory_bytes": 2_000_000_000,
    "container_memory_limit_bytes": 8_000_000_000,
    "host_memory_used_bytes": 30_000_000_000,
    "host_memory_total_bytes": 31_000_000_000,
    "container_throttled_seconds_per_second": 0.0,
    "attempt": "0001-abcdef",
    "gpus": [GPU],
}
TIME = {
    **dict.fromkeys(PURPOSES, 0.0),
    "start-up": 10.0,
    "data": 2.0,
    "step": 100.0,
    "evaluation": 5.0,
    "checkpoint stall": 1.0,
    "other": 2.0,
}
SLOW_STORE = {"store_seconds": 30.0, "interval_seconds": 10.0}


def rows(count=20, *, gpu=None, **changes):
    """Samples of a run that takes 10 steps in each second."""
    return [{**HEALTHY, "step": 10 * n, **changes, "gpus": [{**GPU, **(gpu or {})}]} for n in range(count)]


def titles(found):
    return [finding["title"] for finding in found]


def test_a_healthy_run_has_no_findings():
    assert findings(time=TIME, rows=rows()) == []
    assert findings(time={}, rows=[]) == []
    assert findings(time=TIME, rows=[{**row, "gpus": []} for row in rows()]) == []


def test_a_run_without_any_figures_of_the_machine_has_no_findings():
    assert findings(time=TIME, rows=[{"interval_seconds": 1.0, "time": float(n)} for n in range(20)]) == []


@pytest.mark.parametrize(
    ("samples", "title"),
    [
        (rows(gpu={"utilization_percent": 35}), "The GPU waits for the host"),
        (rows(container_memory_bytes=7_500_000_000), "Memory near the container's limit"),
        (rows(container_memory_limit_bytes=None), "Memory near the node's limit"),
        (rows(gpu={"memory_used_bytes": 79_000_000_000}), "GPU memory near its limit"),
        (rows(container_out_of_memory_kills=2), "The kernel killed a process of this container for its memory"),
        (rows(container_throttled_seconds_per_second=0.4), "The CPU quota holds the process back"),
        (rows(gpu={"throttle_reasons": ["hardware_thermal"]}), "The GPU is too hot for its clock"),
        (rows(gpu={"throttle_reasons": ["power_cap", "application_clocks"]}), "The GPU's power is limited"),
    ],
)
def test_rules_about_samples(samples, title):
    (found,) = findings(time=TIME, rows=samples)
    assert found["title"] == title
    assert all(found[part] for part in ("seen", "when", "change"))


@pytest.mark.parametrize(
    ("changes", "checkpoint", "title"),
    [
        ({"checkpoint stall": 20.0}, None, "Checkpoints stall the training"),
        ({"upload wait": 20.0}, None, "The store is slower than the checkpoints come"),
        ({}, SLOW_STORE, "The store is slower than the checkpoints come"),
        ({"step": 10.0, "checkpoint stall": 0.0}, None, "Start-up dominates this short run"),
    ],
)
def test_rules_about_time(changes, checkpoint, title):
    assert titles(findings(time=TIME | changes, rows=rows(), checkpoint=checkpoint)) == [title]


def test_a_store_that_keeps_up_is_fine():
    assert findings(time=TIME, rows=[], checkpoint={"store_seconds": 9.0, "interval_seconds": 10.0}) == []


def test_the_remedy_for_an_idle_gpu_depends_on_the_host():
    def change(time=TIME, **changes):
        (found,) = findings(time=time, rows=rows(gpu={"utilization_percent": 35}, **changes))
        return found["change"]

    assert "batch_size" in change()
    assert "CPUs" in change(process_cpu_cores=3.9)
    assert "CPUs" in change(time=TIME | {"data": 50.0})


def test_a_gpu_may_idle_while_no_steps_are_taken():
    idle = [{**row, "step": 0} for row in rows(60, gpu={"utilization_percent": 0})]
    assert findings(time=TIME, rows=[*idle, *rows()]) == []


def test_throttling_of_a_few_samples_is_none():
    assert findings(time=TIME, rows=[*rows(), *rows(1, gpu={"throttle_reasons": ["thermal"]})]) == []


def test_a_finding_says_what_when_and_what_to_change():
    samples = rows()
    samples[7:10] = [{**row, "container_memory_bytes": 7_500_000_000 + row["step"]} for row in samples[7:10]]
    (found,) = findings(time=TIME, rows=samples)
    assert found["seen"].startswith("7.50 of 8.00 GB were in use (94%)")
    assert found["when"] == "in 3 of 20 samples, from step 70 to 90; most at step 90"
    assert "memory limit" in found["change"]


def test_what_the_last_sample_tells():
    assert probably_out_of_memory({**HEALTHY, "container_memory_bytes": 7_900_000_000}) == (
        "probably out of memory: in its last sample 7.90 of the container's 8.00 GB were in use"
    )
    without_limit = {**HEALTHY, "container_memory_limit_bytes": None}
    assert "of the node's 31.00 GB" in str(probably_out_of_memory(without_limit))
    assert "the kernel had killed" in str(probably_out_of_memory({**HEALTHY, "container_out_of_memory_kills": 1}))
    assert probably_out_of_memory(HEALTHY) is None
    assert probably_out_of_memory({}) is None


@pytest.fixture
def run(tmp_path):
    """The third attempt on a run; the second one left what a test puts."""
    found = Run(FolderStore(tmp_path), "a")
    found.attempt = "0003-cccccc"
    for name in ("0001-aaaaaa", "0002-bbbbbb", found.attempt):
        found.store.put(found.key("attempts", name, "claim.json"), encoded({}))
    return found


def put(run, name, *samples):
    run.store.put(run.key("attempts", "0002-bbbbbb", name), "".join(json.dumps(row) + "\n" for row in samples).encode())


def test_a_previous_attempt_that_was_killed_near_its_limit(run):
    put(run, "resources-9999.jsonl", {**HEALTHY, "container_memory_bytes": 7_900_000_000})
    put(run, "resources-10000.jsonl", HEALTHY, {**HEALTHY, "container_memory_bytes": 7_800_000_000})
    assert describe_previous_attempt(run) == (
        "attempt 0002-bbbbbb ended without a word: probably out of memory: in its last sample 7.80 of the container's 8.00 GB were in use"
    )


def test_other_previous_attempts(run):
    assert describe_previous_attempt(run) == "attempt 0002-bbbbbb ended without a word: killed, or its node was lost"
    put(run, "resources-0001.jsonl", HEALTHY)
    assert describe_previous_attempt(run) == "attempt 0002-bbbbbb ended without a word: killed, or its node was lost"
    put(run, "end.json", {"exit_code": 143, "reason": "stopped by SIGTERM"})
    assert describe_previous_attempt(run) is None
    run.attempt = "0001-aaaaaa"
    assert describe_previous_attempt(run) is None
