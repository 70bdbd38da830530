"""Between two reads the host neither waits for the device nor computes for it: shown without a GPU, see `purity`."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from job import engines
from tests.engines.purity import RECIPES

ROOT = Path(__file__).parents[2]


@cache
def complaints(engine):
    if engine not in engines.installed():
        pytest.skip(f"{engine} is not installed")
    command = [sys.executable, "-m", "tests.engines.purity", engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if "skip" in found:
        pytest.skip(found["skip"][0])
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("engine", engines.ENGINES)
def test_steps_and_evaluation_stay_on_the_device(engine, recipe):
    assert complaints(engine)[recipe] == []


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_checksums_and_patterns_stay_on_the_device(engine):
    assert complaints(engine)["checksums"] == []


def test_tensorflow_traces_a_step_once_for_each_image_size_and_the_evaluation_once():
    assert complaints("tensorflow")["traced once"] == []


@pytest.mark.parametrize(
    ("engine", "planted", "word"),
    [
        ("torch", "planted item", "item"),
        ("torch", "planted copy", "meta"),
        ("torch", "planted branch", "meta"),
        ("tensorflow", "planted Python", "EagerPyFunc runs Python"),
        ("tensorflow", "planted int32", "Mul(T=DT_INT32) computes on int32"),
        ("tensorflow", "planted text", "has no kernel for GPUs"),
    ],
)
def test_a_planted_fault_is_seen(engine, planted, word):
    assert any(word in complaint for complaint in complaints(engine)[planted]), complaints(engine)[planted]
