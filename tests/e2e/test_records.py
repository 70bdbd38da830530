"""What a real run, dataset and trace hold is what `job.core.records` says, field by field."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from job.core.identity_records import Claim
from job.core.recipe import Recipe
from job.core.records import (
    CheckpointState,
    DatasetManifest,
    End,
    EpochLine,
    IntervalLine,
    Manifest,
    RunRecord,
    Status,
    Summary,
    TraceFacts,
)
from job.core.resource_records import ResourceRow
from job.core.validation import checked
from job.parity.tracefile import Trace
from tests.support.commands import alexnet, train

ATTEMPT, STEP = r"\d{4}-[0-9a-f]{6}", r"step-\d{8}"
OBJECTS: dict[str, Any] = {
    "run.json": RunRecord,
    rf"attempts/{ATTEMPT}/claim.json": Claim,
    rf"attempts/{ATTEMPT}/status.json": Status,
    rf"attempts/{ATTEMPT}/resources-\d{{4}}.jsonl": ResourceRow,
    rf"attempts/{ATTEMPT}/end.json": End,
    rf"checkpoints/{STEP}-{ATTEMPT}/state.json": CheckpointState,
    rf"checkpoints/{STEP}-{ATTEMPT}/metrics.jsonl": IntervalLine | EpochLine,
    rf"checkpoints/{STEP}-{ATTEMPT}/MANIFEST.json": Manifest,
    rf"final/{ATTEMPT}/metrics.jsonl": IntervalLine | EpochLine,
    "summary.json": Summary,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs")
    done = train("torch", output, "r", "--set", "validation=90", "--set", "truncated_test=true")
    assert done.returncode == 0, done.stderr
    return output / "r"


def decoded(path: Path) -> list[Any]:
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(line) for line in lines]


def test_every_object_of_a_run_has_these_fields_and_no_others(run: Path) -> None:
    seen = set()
    for path in (path for path in run.rglob("*") if path.suffix in (".json", ".jsonl")):
        name = path.relative_to(run).as_posix()
        pattern = next(pattern for pattern in OBJECTS if re.fullmatch(pattern, name))
        seen.add(pattern)
        for value in decoded(path):
            assert checked(OBJECTS[pattern], value) == value, name
    assert {*OBJECTS} - seen <= {rf"attempts/{ATTEMPT}/status.json"}  # a run of seconds may end before its first


def test_the_optional_fields_of_this_run(run: Path) -> None:
    summary: Summary = json.loads((run / "summary.json").read_text())
    (last,) = [line for line in decoded(run / "final" / summary["attempt"] / "metrics.jsonl") if line["kind"] == "epoch"][-1:]
    assert 0 < last["validation_accuracy"] <= 1
    record: RunRecord = json.loads((run / "run.json").read_text())
    assert {*record["recipe"]} == {*Recipe().as_dict()}
    assert summary["truncated_test"]["images"] == summary["test_images"] // 32 * 32
    assert record["recipe"]["batch_size"] == 32


def test_the_manifest_of_a_dataset(tmp_path: Path) -> None:
    done = alexnet("data", "push", "digits", str(tmp_path))
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "MANIFEST.json").read_text())
    assert checked(DatasetManifest, stored) == stored


def test_the_header_of_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.safetensors"
    small = ("--width", "0.0625", "--image-size", "64", "--batch-size", "8", "--steps", "2", "--threads", "1")
    done = alexnet("trace", "--engine", "torch", *small, "--output", str(path))
    assert done.returncode == 0, done.stderr
    facts = Trace(path, str(path)).facts
    assert checked(TraceFacts, facts) == facts
