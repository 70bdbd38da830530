"""Pairs with known answers: the right verdict, or the right refusal."""

import numpy as np

from job.analysis import text
from job.analysis.comparison import compare
from tests.unit.made_up import results, with_predictions


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
    assert found.sides == ["torch", "tensorflow"]
    assert found.verdict.startswith("No difference can be seen: 90.1 % vs 90.1 % on average over 3 and 3 seeds")
    better = compare([*torch, *(results(f"k{n}", "tensorflow", seed=n, accuracy=0.93 + n / 1000, noise=9 + n) for n in range(3))])
    assert better.verdict.startswith("tensorflow is better: 90.1 % vs 93.1 %")


def test_three_runs_are_corrected_for_many_pairs():
    runs = [results("a", noise=1), results("b", noise=2), results("c", noise=3, accuracy=0.95)]
    assert compare(runs).verdict == "2 of 3 pairs differ (McNemar's test with Holm's correction): a and c and b and c."


def test_the_table_keeps_training_accuracy_apart():
    found = compare([results("a"), results("b", "tensorflow", noise=2)])
    shown = text.table(found)
    assert shown.splitlines()[0].endswith("(training)")
    assert "99.0 %" in shown
    assert shown.endswith(found.verdict)
