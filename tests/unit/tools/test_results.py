"""What `make results` and the search keep of a run, and the tables they draw of it."""

import tomllib

import pytest

from job.core.recipe import Recipe
from tests.support.made_up import results
from tools import results as full
from tools import search

TIMES = {"time": {"step": 3000.0, "evaluation": 300.0}, "test_accuracy_interval_95": (0.894, 0.906), "final": {"report.html": {}}}


def run(name, engine, accuracy=0.9, noise=0):
    made = results(name, engine, accuracy=accuracy, noise=noise)
    made.summary.update(TIMES)
    return made


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """The documents of the repository, in a folder of their own, with the tables of two runs."""
    monkeypatch.setattr(full, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(full, "CURVES", tmp_path / "results.png")
    document = tmp_path / "results.md"
    document.write_text(full.DOCUMENT.read_text())
    monkeypatch.setattr(full, "DOCUMENT", document)
    pair = [run("default-torch", "torch"), run("default-tensorflow", "tensorflow", 0.85, 1)]
    for one in pair:
        full.write(full.FOLDER / f"{one.id}.json", full.facts(one))
    full.write(full.FOLDER / "compared-default.json", full.verdict(pair))
    full.draw()
    return tmp_path


def test_tables_and_curves_need_the_kept_figures_only(pages):
    text = (pages / "results.md").read_text()
    assert "| `default-torch` | 20 | **90.0 %** | 89.4 to 90.6 | 99.0 % | 1000 | 55 min | 2.00 GB |" in text
    assert "| epoch | `default-torch` | `default-tensorflow` |" in text
    assert "| 20 | 87.5 | 87.5 |" in text
    assert text.count("> Of these two networks, default-torch (torch) is better") == 1
    assert (pages / "results.png").read_bytes().startswith(b"\x89PNG")
    full.draw()
    assert (pages / "results.md").read_text() == text


def test_what_is_kept_is_small_and_without_the_list_of_files(pages):
    kept = (pages / "results" / "default-torch.json").read_text()
    assert len(kept) < 20_000
    assert "report.html" not in kept
    assert "test_accuracy" in kept


def test_every_trial_is_a_recipe_that_never_looks_at_the_test_set():
    found = search.trials(tomllib.loads(search.TRIALS.read_text()))
    for keys in found.values():
        assert Recipe().with_values(keys).validation == 5000


def test_the_table_of_a_group_has_those_that_are_done():
    group = {"common": {"epochs": 8}, "base": {}, "wide": {"dropout": 0.2, "verdict": "kept"}, "later": {"cutout": 8}}
    one = {"accuracies": [0.5, 0.8123], "loss": 0.6, "training": 0.75}
    text = search.table(group, {"base": one, "wide": one})
    assert text.splitlines()[2:] == [
        "| base | – | 81.23 % | 0.600 | 75.0 % |  |",
        "| wide | `dropout = 0.2` | 81.23 % | 0.600 | 75.0 % | kept |",
    ]
