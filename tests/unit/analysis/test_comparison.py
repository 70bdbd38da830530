"""Pairs with known answers: the right verdict, or the right refusal."""

import dataclasses
from importlib import resources

import numpy as np

from job.analysis import text
from job.analysis.comparison import compare
from job.analysis.verdict import many_sentence
from job.core.recipe import from_toml
from tests.support.made_up import results, with_predictions


def test_a_run_against_itself():
    found = compare([results("a"), results("b")])
    assert found.verdict.startswith("The runs are the same in every prediction (90.0 % vs 90.0 %, p = 1.00,")
    assert found.decided
    assert not found.differences


def test_equally_good_runs_of_two_engines():
    found = compare([results("a", noise=1), results("b", "tensorflow", noise=2, accuracy=0.902)])
    assert found.verdict.startswith("No difference can be seen: 90.0 % vs 90.2 %, p = 0.6")
    assert found.decided
    assert {row.what for row in found.differences} == {"engine", "library versions"}
    assert all(row.fair for row in found.differences)


def test_one_per_cent_flipped_to_wrong_is_seen():
    a = results("a")
    predictions = a.logits.argmax(1)
    right = np.flatnonzero(predictions == a.labels)[:100]
    predictions[right] = (predictions[right] + 1) % 10
    found = compare([with_predictions(a, predictions, "worse"), a])
    assert found.verdict.startswith("a (torch) is better: 89.0 % vs 90.0 %, p < 0.001, 95 % interval +0.8 to +1.2 points")
    pair = found.pairs["worse | a"]
    assert (pair.only_first, pair.only_second, pair.difference, pair.agreement) == (0, 100, 0.01, 0.99)


def test_a_truncated_test_set_is_refused():
    found = compare([results("a"), results("b", images=9_984)])
    assert not found.decided
    assert found.verdict.startswith("No verdict: the runs are not comparable, they differ in test images")
    assert not found.pairs
    assert "no paired test is possible" in compare([results("a"), results("b", images=9_984)], anyway=True).verdict


def test_another_dataset_is_refused():
    found = compare([results("a"), results("b", fingerprint="e" * 64)])
    assert not found.decided
    assert found.verdict == "No verdict: the runs are not comparable, they differ in data fingerprint."
    assert "UNFAIR: other images or labels" in text.table(found)


def test_other_epochs_are_refused_unless_asked():
    pair = [results("a"), results("b", epochs=30, noise=5)]
    assert "differ in epochs done and recipe: epochs" in compare(pair).verdict
    anyway = compare(pair, anyway=True)
    assert anyway.decided
    assert anyway.verdict.startswith("Unfair comparison (epochs done and recipe: epochs differ): No difference can be seen")


def test_several_seeds():
    torch = [results(f"t{n}", seed=n, accuracy=0.90 + n / 1000, noise=n) for n in range(3)]
    keras = [results(f"k{n}", "tensorflow", seed=n, accuracy=0.9005 + n / 1000, noise=9 + n) for n in range(3)]
    found = compare([*torch, *keras])
    assert found.sides == {"torch": ["t0", "t1", "t2"], "tensorflow": ["k0", "k1", "k2"]}
    assert found.verdict.startswith("No difference can be seen: 90.1 % vs 90.1 % on average over 3 and 3 seeds")
    assert found.needed == {"0.25": 4, "0.5": 3, "1": 2, "2": 2}  # a deviation of 0.1 points
    better = compare([*torch, *(results(f"k{n}", "tensorflow", seed=n, accuracy=0.93 + n / 1000, noise=9 + n) for n in range(3))])
    assert better.verdict.startswith("tensorflow is better: 90.1 % vs 93.1 %")
    shown = text.table(better)
    assert "torch | tensorflow        +3.0" in shown
    assert "0.25 points" in shown


def test_seeds_of_several_recipes_are_corrected_for_many_pairs():
    runs = [results(f"{d}-{n}", seed=n, dropout=d, accuracy=0.9 + d / 10 + n / 1000, noise=n) for d in (0.3, 0.4, 0.7) for n in range(3)]
    assert compare(runs).verdict.startswith("No verdict")
    found = compare(runs, anyway=True)
    assert list(found.sides) == ["torch", "torch, dropout 0.4", "torch, dropout 0.7"]
    assert "3 of 3 pairs of sides differ (t tests over seeds and images with Holm's correction)" in found.verdict


def test_seeds_of_one_side_are_no_comparison():
    found = compare([results(str(n), seed=n, noise=n, accuracy=0.9 + n / 100) for n in range(3)])
    assert found.verdict == (
        "One side only (torch, 3 seeds): 91.0 % on average, with a standard deviation of 1.0 points; nothing to compare it with."
    )
    two = compare([results("a"), results("b", seed=1, noise=3, accuracy=0.95)])
    assert two.verdict.endswith("both are the same engine and recipe, so this is what another seed does.")


def test_three_runs_are_corrected_for_many_pairs():
    runs = [results("a", noise=1), results("b", "tensorflow", noise=2), results("c", "tensorflow", noise=3, seed=1, accuracy=0.95)]
    found = compare(runs)
    assert found.verdict == "2 of 3 pairs of runs differ (McNemar's test with Holm's correction): a and c; b and c."
    assert "same predictions" in text.table(found)


def test_holm_stops_at_the_first_p_that_is_too_great():
    assert many_sentence({"a | b": 0.02, "a | c": 0.03, "b | c": 0.04}, "runs", "test").startswith(
        "No difference can be seen in any of the 3"
    )
    assert many_sentence({"a | b": 0.01, "a | c": 0.024, "b | c": 0.06}, "runs", "test").endswith(": a and b; a and c.")


def test_fields_without_effect_are_harmless():
    adam = {"optimizer": "adam", "noise": 1}
    found = compare([results("a", momentum=0.9, truncated_test=True, **adam), results("b", momentum=0.5, **adam)])
    assert {row.what: row.why for row in found.differences} == {
        "recipe: momentum": "without effect in these recipes",
        "recipe: truncated_test": "an extra figure only",
    }
    assert found.decided
    assert not compare([results("a"), results("b", momentum=0.5)]).decided


def test_the_two_programs_of_the_original_report_are_refused():
    files = [resources.files("job").joinpath("recipes", f"report-{name}.toml").read_text() for name in ("torch", "keras")]
    fields = [from_toml(text, "").as_dict() for text in files]
    found = compare([results(f["name"], epochs=f.pop("epochs"), recipe_name=f.pop("name"), **f) for f in fields])
    assert not found.decided
    assert {row.what.removeprefix("recipe: ") for row in found.differences if not row.fair} == {
        *("epochs done", "epochs", "normalization", "conv1_padding", "dropout_position", "initial_weights", "optimizer", "epsilon")
    }
    assert found.verdict.endswith("recipe: normalization, recipe: conv1_padding, recipe: dropout_position and 3 more.")


def test_runs_of_the_same_name_are_told_apart():
    a = results("same")
    found = compare([a, a, dataclasses.replace(results("same", noise=2), url="s3://bucket/same")])
    assert [run.id for run in found.figures] == ["runs/same", "runs/same (2)", "s3://bucket/same"]
    assert len(found.pairs) == 3


def test_the_table_keeps_training_accuracy_apart():
    found = compare([results("a"), results("b", "tensorflow", noise=2)])
    shown = text.table(found)
    assert shown.splitlines()[0].endswith("(training)")
    assert "99.0 %" in shown
    assert shown.endswith(found.verdict)
