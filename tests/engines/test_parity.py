"""Two engines that trace one recipe agree.  What happens where one of them has a fault: `test_planted`.

Each engine runs in a subprocess (`tests.engines.traces`): this one imports neither.
"""

import subprocess
import sys

import numpy as np
import pytest

from job import engines
from job.parity.compare import compare
from tests.engines.traces import KERAS, PRECISIONS, RECIPES, traced

LONG = [f"long-{recipe}-fp64" for recipe in RECIPES]
SHORT = [f"{recipe}-{precision}" for recipe in RECIPES for precision in PRECISIONS if precision != "fp64"]

pytestmark = pytest.mark.skipif(engines.installed() != engines.ENGINES, reason="needs both torch and tensorflow")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """trace(engine, case)"""
    return traced(tmp_path_factory.mktemp("traces"), [*LONG, *SHORT])


@pytest.fixture(scope="module")
def compared(trace):
    """compared(case): both engines."""
    return lambda case: compare(*(trace(engine, case) for engine in engines.ENGINES))


def worst(parity, kind, steps=None):
    return max(d.relative for d in parity.differences if d.kind == kind and (steps is None or d.step in steps))


@pytest.mark.parametrize("recipe", RECIPES)
def test_fifty_steps_are_the_same_in_float64(trace, compared, recipe):
    parity = compared(f"long-{recipe}-fp64")
    assert parity.failure is None
    for kind in ("initial", "inputs", "hits", "loaded", *(["masks"] if RECIPES[recipe].dropout else [])):
        assert worst(parity, kind) == 0
    for kind in ("activations", "logits", "loss", "gradients", "update", "slots"):
        assert 0 < worst(parity, kind) <= 1e-11
    torch, tensorflow = (trace(engine, f"long-{recipe}-fp64") for engine in engines.ENGINES)
    assert torch.facts["hits"] == tensorflow.facts["hits"]
    assert len(set(torch["losses"])) == 50


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_first_step_is_the_same_in_float32(compared, recipe):
    parity = compared(f"{recipe}-fp32")
    assert parity.failure is None
    assert worst(parity, "inputs") == worst(parity, "initial") == 0
    assert 0 < worst(parity, "logits", {0}) <= 5e-6
    assert 0 < worst(parity, "gradients", {0}) <= 1e-5
    assert 0 < worst(parity, "update") <= 1e-5


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_update_is_as_precise_in_bfloat16(compared, recipe):
    parity = compared(f"{recipe}-bf16")
    assert parity.failure is None
    assert worst(parity, "activations", {0}) > 1e-4
    assert 0 < worst(parity, "update") <= 1e-5
    assert worst(parity, "hits") == worst(parity, "loaded") == 0


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_what_is_observed_is_what_the_step_uses(trace, engine):
    """Adam's first moment after a first step without clipping and decay is a tenth of the gradient."""
    found = trace(engine, "long-keras-adam-fp64")
    for name in KERAS.architecture().parameter_shapes:
        np.testing.assert_allclose(found[f"0/slots/first_moment/{name}"] * 10, found[f"0/gradients/{name}"], rtol=1e-12, atol=1e-18)


def test_the_test_images_are_evaluated(trace):
    found = trace("torch", "long-default-fp64")
    assert found["0/evaluation"].shape == found["other/evaluation"].shape == (9, 10)
    assert found["0/evaluation"].dtype == np.float32
    assert found.facts["digests"]["saved/evaluation"] == found.facts["digests"]["loaded/evaluation"]
    assert not np.array_equal(found["0/evaluation"], found["49/evaluation"])


def test_comparing_imports_no_framework():
    """In a process of its own, since other tests of this one may have imported one."""
    code = f"import sys, {__name__}; print(*{{'torch', 'tensorflow', 'keras'}} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""
