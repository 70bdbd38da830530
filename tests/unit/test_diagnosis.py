"""Each rule provoked, and silent where nothing is wrong."""

import pytest

from job.analysis.diagnosis import findings, probably_out_of_memory

HEALTHY = {
    "process_cpu_cores": 1.0,
    "container_cpu_limit_cores": 4.0,
    "container_memory_bytes": 2e9,
    "container_memory_limit_bytes": 8e9,
    "container_throttled_share": 0.0,
    "gpus": [{"index": 0, "utilization_percent": 97, "throttle_reasons": []}],
    "step": 100,
}
TIME = {"start-up": 10.0, "step": 100.0, "evaluation": 5.0, "checkpoint stall": 1.0, "upload wait": 0.0, "other": 2.0}


def titles(time=TIME, checkpoint=None, **changes):
    rows = [{**HEALTHY, **changes}] * 20
    return [finding["title"] for finding in findings(time=time, rows=rows, checkpoint=checkpoint)]


def test_a_healthy_run_has_no_findings():
    assert titles() == []
    assert findings(time={}, rows=[]) == []


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"gpus": [{"index": 0, "utilization_percent": 35}], "process_cpu_cores": 3.9}, "The GPU waits for the host"),
        ({"gpus": [{"index": 0, "utilization_percent": 35}]}, "The GPU waits for the host"),
        ({"container_memory_bytes": 7.5e9}, "Memory near the container's limit"),
        ({"container_throttled_share": 0.4}, "The CPU quota holds the process back"),
        ({"gpus": [{"index": 0, "utilization_percent": 97, "throttle_reasons": ["hardware_thermal"]}]}, "The GPU runs below its clock"),
        ({"gpus": [{"index": 0, "utilization_percent": 97, "throttle_reasons": ["power_cap"]}]}, "The GPU runs below its clock"),
        ({"time": {**TIME, "checkpoint stall": 20.0}}, "Checkpoints stall the training"),
        ({"time": {**TIME, "upload wait": 20.0}}, "The store is slower than the checkpoints come"),
        ({"checkpoint": {"store_seconds": 30.0, "interval_seconds": 10.0}}, "The store is slower than the checkpoints come"),
        ({"time": {**TIME, "step": 10.0}}, "Start-up dominates this short run"),
    ],
)
def test_each_rule(changes, title):
    assert titles(**changes) == [title]


def test_a_finding_says_what_when_and_what_to_change():
    (found,) = findings(time=TIME, rows=[{**HEALTHY, "container_memory_bytes": 7.5e9}])
    assert found["seen"].startswith("The working set reached 7.50 of 8.00 GB (94%)")
    assert found["when"] == "at step 100"
    assert "memory limit" in found["change"]


def test_cooling_and_power_have_other_remedies():
    def change(reason):
        rows = [{**HEALTHY, "gpus": [{"index": 0, "utilization_percent": 97, "throttle_reasons": [reason]}]}] * 20
        return findings(time=TIME, rows=rows)[0]["change"]

    assert "cooling" in change("thermal")
    assert "power limit" in change("power_cap")


def test_a_predecessor_that_was_out_of_memory():
    assert "probably out of memory: its last sample shows 7.90 of 8.00 GB" in str(
        probably_out_of_memory([HEALTHY, {**HEALTHY, "container_memory_bytes": 7.9e9}])
    )
    assert probably_out_of_memory([{**HEALTHY, "container_memory_bytes": 7.9e9}, HEALTHY]) is None
    assert probably_out_of_memory([]) is None
