"""Exit codes and options of `alexnet compare`, over results in memory."""

import json

import numpy as np
import pytest
from click import BadParameter
from click.testing import CliRunner

from job.cli.compare import compare
from job.core.exits import Exit, JobError
from job.runs.results import Results
from tests.support.made_up import results

RUNS = {
    "a": results("a"),
    "same": results("same"),
    "broken": results("broken", noise=3),
    "keras": results("keras", "tensorflow", noise=2),
    "longer": results("longer", epochs=30),
}


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[object, str]:
    """The exit code and what was printed."""

    def read(url: str) -> Results:
        return RUNS[url]

    monkeypatch.setattr("job.runs.results.read_results", read)
    done = CliRunner().invoke(compare, words, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value, done.output


def test_a_broken_promise_is_an_error_where_it_is_asked_for(monkeypatch):
    code, shown = call(monkeypatch, "a", "broken")
    assert (code, "Not reproducible: a and broken" in shown) == (0, True)
    assert call(monkeypatch, "a", "broken", "--strict")[0] == 1
    assert call(monkeypatch, "a", "same", "--strict")[0] == 0
    assert call(monkeypatch, "a", "keras", "--strict")[0] == 0


def test_a_withheld_verdict_is_1(monkeypatch):
    assert call(monkeypatch, "a", "longer")[0] == 1
    assert call(monkeypatch, "a", "longer", "--anyway")[0] == 0


def test_a_run_given_twice_is_2(monkeypatch):
    with pytest.raises(JobError, match="runs/a and runs/a are the same run") as error:
        call(monkeypatch, "a", "keras", "a")
    assert error.value.code == Exit.USAGE


def test_the_margin_is_in_points(monkeypatch):
    found = json.loads(call(monkeypatch, "a", "keras", "--margin", "2", "--json")[1])
    assert found["margin"] == pytest.approx(0.02)
    assert found["pairs"]["a | keras"]["equivalence"]["equal"] is True
    assert found["pairs"]["a | keras"]["direction"] == "keras minus a"
    assert np.isfinite(found["pairs"]["a | keras"]["detectable"])
    assert "are equal within 2 points" in call(monkeypatch, "a", "keras", "--margin", "2")[1]


@pytest.mark.parametrize("margin", ["0", "-1", "100", "much"])
def test_a_margin_that_makes_no_sense_is_refused(monkeypatch, margin):
    with pytest.raises(BadParameter, match="range"):
        call(monkeypatch, "a", "keras", "--margin", margin)
