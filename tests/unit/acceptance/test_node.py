"""Every GPU of a node has a process of its own: two scripted cards, whose work two processes do on the CPU."""

import json
from pathlib import Path

import pytest

from job.acceptance.node import Setup, accept, gpus
from job.acceptance.record import checked
from job.core import validation
from job.core.acceptance_records import Verdict
from job.core.exits import JobError
from job.core.recipe import Recipe
from job.doctor.page import Line
from job.storage.folder import FolderStore
from tests.support.fake_nvml import Card, Nvml

ROOT = Path(__file__).parents[3]
CARDS = """
import sys
from tests.support.fake_nvml import Card, Nvml
full = dict(memory=(0, 1_800_000_000), power=400_000, energy=1_000_000, temperature=60, clocks=(1980, 2619))
sys.modules[__name__] = Nvml(
    [
        Card(uuid="GPU-a", reasons=0, link=(5, 16, 5, 16), ecc=(0, 0), **full),
        Card(uuid="GPU-b", reasons=0x40, link=(5, 8, 5, 16), ecc=(0, 0), later={3.0: dict(ecc=(0, 2))}, **full),
    ]
)
"""
RECIPE = Recipe(name="accept", batch_size=8, image_size=64, width=1 / 16, flip=False, learning_rate=0.003, clip_norm=0)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(
        engine="torch",
        recipe=RECIPE,
        seed=0,
        device="cpu",
        threads=2,
        steps=20,
        traced=1,
        rounds=0,
        minutes=0.1,
        store=FolderStore(tmp_path / "store"),
        name="job-7",
    )


def test_two_gpus_two_processes_two_verdicts(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text(CARDS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    found = gpus("auto", Nvml([Card(uuid="GPU-a", name="A"), Card(uuid="GPU-b", name="B")]))
    said: list[str] = []
    first, second = accept(setup, found, lambda _: [Line(check="cpus", level="pass", reason="two")], said.append)
    assert (first["gpu"]["uuid"], first["gpu_uuid"], second["gpu"]["position"]) == ("GPU-a", "GPU-a", 1)
    assert (first["verdict"], second["verdict"]) == ("pass", "fail")
    wrong = [one["what"] for one in second["evidence"] if one["level"] != "pass"]
    assert wrong[0] == "2 errors of memory that could not be corrected during the test"
    assert "width 8 of 16 lanes under load" in wrong
    assert any("hardware_thermal in 100%" in what for what in wrong)
    assert first["load"]["power_watts"] == {"median": 400.0, "least": 400.0, "greatest": 400.0}
    assert first["memory"]["bytes"] >= 1 << 26
    assert first["modes"][0]["digest"] == second["modes"][0]["digest"]
    assert {line.partition(":")[0] for line in said} == {"GPU 0", "GPU 1"}
    folders = sorted(path.parent.parent.name for path in (tmp_path / "store").rglob("verdict.json"))
    assert folders == ["job-7-a", "job-7-b"]
    for path in (tmp_path / "store").rglob("verdict.json"):
        validation.parse(Verdict, path.read_bytes())


def test_a_hung_process_is_ended_and_named(setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import job.engines, time\njob.engines.open_engine = lambda *_, **__: time.sleep(99)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setattr("job.acceptance.node.SILENCE", 3.0)
    (found,) = accept(setup, gpus("cpu"), lambda _: [], lambda _: None)
    assert (found["verdict"], found["evidence"][0]["what"]) == ("fail", "it hung: no sign for 3 s")
    assert json.loads(next((tmp_path / "store").rglob("verdict.json")).read_text())["modes"] == []


def test_a_name_that_cannot_be_a_folders() -> None:
    assert checked("0a1b-3") == "0a1b-3"
    with pytest.raises(JobError, match="--run-id"):
        checked("../x")


def test_a_machine_without_gpus_has_its_cpu() -> None:
    (found,) = gpus("auto", Nvml([], failure=9))
    assert (found["uuid"], found["position"]) == ("", 0)
    assert found["name"]
