"""Two engines that trace one recipe agree; an engine with a planted fault is caught, and the fault named.

Each engine runs in a subprocess (`tests.engines.traces`): this one imports neither.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from job import engines
from job.parity.compare import compare
from job.parity.tracefile import opened
from tests.engines.traces import ADAM, FAULTS, KERAS, LONG, RECIPES, SMALL, SOUND

ROOT = Path(__file__).parents[2]
TORCH, TENSORFLOW = engines.ENGINES
LOUD = 1e-6

pytestmark = pytest.mark.skipif(engines.installed() != engines.ENGINES, reason="needs both torch and tensorflow")


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """traced(engine, case): a verified trace.  Both engines are at work side by side."""
    folder = tmp_path_factory.mktemp("traces")
    running = []
    for engine in engines.ENGINES:
        (folder / engine).mkdir()
        command = [sys.executable, "-m", "tests.engines.traces", engine, folder / engine, *FAULTS, *SOUND, *LONG]
        running.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors[-3000:]

    def trace(engine, case):
        with opened(str(folder / engine / f"{case}.safetensors")) as found:
            return found

    return trace


def worst(parity, kind, steps=None):
    return max(d.relative for d in parity.differences if d.kind == kind and (steps is None or d.step in steps))


@pytest.mark.parametrize("recipe", RECIPES)
def test_fifty_steps_are_the_same_in_float64(traced, recipe):
    torch, tensorflow = (traced(engine, f"{recipe}-fp64") for engine in engines.ENGINES)
    parity = compare(torch, tensorflow)
    assert parity.failure is None
    for kind in ("initial", "inputs", *(["masks"] if RECIPES[recipe].dropout else [])):
        assert worst(parity, kind) == 0
    for kind in ("activations", "logits", "loss", "gradients", "slots"):
        assert 0 < worst(parity, kind) <= 1e-11
    assert torch.facts["hits"] == tensorflow.facts["hits"]
    assert len(set(torch["losses"])) == 50


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_first_step_is_the_same_in_float32(traced, recipe):
    parity = compare(*(traced(engine, f"{recipe}-fp32") for engine in engines.ENGINES))
    assert parity.failure is None
    assert worst(parity, "inputs") == worst(parity, "initial") == 0
    assert 0 < worst(parity, "logits", {0}) <= 5e-6
    assert 0 < worst(parity, "gradients", {0}) <= 1e-2


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_what_is_observed_is_what_the_step_uses(traced, engine):
    """Adam's first moment after a first step without clipping and decay is a tenth of the gradient."""
    trace = traced(engine, "keras-adam-2")
    for name in KERAS.architecture().parameter_shapes:
        np.testing.assert_allclose(trace[f"0/slots/first_moment/{name}"] * 10, trace[f"0/gradients/{name}"], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("case", SOUND)
def test_sound_engines_pass(traced, case):
    assert compare(*(traced(engine, case) for engine in engines.ENGINES)).failure is None


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize(
    ("fault", "kind", "name"),
    [
        ("padding", "activations", "features.3"),
        ("same-at-stride-4", "activations", "features.0"),
        ("odd-pixel-before", "activations", "features.0"),
        ("epsilon", "weights", "features.0.weight"),
        ("keras-momentum", "slots", "momentum/features.0.weight"),
        ("dropout-after", "masks", "classifier.0"),
        ("transposed-kernel", "activations", "features.0"),
        ("bgr", "inputs", ""),
        ("half-pixel", "activations", "resize"),
        ("unbiased-variance", "activations", "normalize"),
        ("smoothing", "loss", ""),
    ],
)
def test_a_planted_fault_is_caught_and_named(traced, engine, fault, kind, name):
    label = {id(SMALL): "default-2", id(ADAM): "torch-adam-2", id(KERAS): "keras-adam-2"}[id(FAULTS[fault].recipe)]
    other = TENSORFLOW if engine == TORCH else TORCH
    failure = compare(traced(engine, fault), traced(other, label)).failure
    assert failure is not None
    assert (failure.step, failure.kind, failure.name) == (0, kind, name)
    assert failure.relative > LOUD


def test_every_fault_is_tested():
    marks = test_a_planted_fault_is_caught_and_named.pytestmark
    assert {row[0] for mark in marks if "fault" in mark.args[0] for row in mark.args[1]} == set(FAULTS)


def test_this_process_imports_no_framework():
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
