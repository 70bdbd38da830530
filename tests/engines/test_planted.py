"""A fault that is planted in either engine is caught, in the precision in which it can be, and named.

A few here; all of them in all precisions, as docs/parity.md tells, in the slow test.
"""

from pathlib import Path

import pytest

from job import engines
from job.parity.compare import compare
from tests.engines.planted import FAULTS
from tests.engines.traces import FAULTY, SOUND, traced
from tools import faults

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"
SHOWN = [
    ("padding", "bf16", 0, "activations", "features.3"),
    ("bgr", "fp64", 0, "inputs", ""),
    ("unbiased-variance", "bf16", 0, "activations", "normalize"),
    ("dropout-keys-reused", "fp32", 1, "masks", "classifier.0"),
    ("ema-without-warm-up", "bf16", 0, "update", "features.0.weight"),
    ("first-size", "bf16", 4, "hits", ""),
    ("step-without-dropout", "bf16", 0, "cross-entropy", ""),
    ("hits-halved", "bf16", 1, "hits", ""),
    ("keras-momentum", "bf16", 0, "update", "momentum/features.0.weight"),
    ("decay-on-biases", "fp32", 0, "update", "momentum/features.0.bias"),
    ("momentum-reset", "bf16", 4, "update", "momentum/features.0.weight"),
    ("last-rate", "bf16", 5, "update", "features.0.weight"),
    ("weights-in-bf16", "bf16", 0, "update", "features.0.weight"),
    ("dropout-in-evaluation", "bf16", 0, "evaluation", ""),
    ("stale-evaluation", "bf16", 0, "evaluation", "other weights"),
    ("late-evaluation", "fp32", 0, "loaded", ""),
    ("slots-lost", "bf16", 0, "loaded", "momentum/features.0.weight"),
]

pytestmark = pytest.mark.skipif(engines.installed() != engines.ENGINES, reason="needs both torch and tensorflow")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """trace(engine, case)"""
    cases = [f"{fault}-{precision}" for fault, precision, *_ in SHOWN]
    sound = {f"{FAULTS[fault].recipe}-{precision}" for fault, precision, *_ in SHOWN}
    return traced(tmp_path_factory.mktemp("traces"), [*cases, *sorted(sound)])


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize(("fault", "precision", "step", "kind", "name"), SHOWN)
def test_a_planted_fault_is_caught_and_named(trace, engine, fault, precision, step, kind, name):
    (other,) = set(engines.ENGINES) - {engine}
    failure = compare(trace(engine, f"{fault}-{precision}"), trace(other, f"{FAULTS[fault].recipe}-{precision}")).failure
    assert failure is not None
    assert (failure.step, failure.kind, failure.name) == (step, kind, name)
    assert failure.trace in ("", "a"), "the sound engine is blamed"


@pytest.mark.slow
def test_the_tables_of_the_document(tmp_path):
    """The very same places; of the sound engines the same rows and limits, as another CPU rounds otherwise."""
    found = traced(tmp_path, [*SOUND, *FAULTY])
    document = DOCUMENT.read_text()
    assert faults.drawn(document, {"faults": faults.fault_table(found)}) == document
    told, now = ([line.split("|") for line in text.splitlines()] for text in (faults.block(document, "sound"), faults.sound_table(found)))
    assert [(row[1], row[-4:]) for row in told] == [(row[1], row[-4:]) for row in now]
