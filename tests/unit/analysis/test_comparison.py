"""Runs with known answers: the right verdict with the right reason, or the right refusal."""

import dataclasses
import json
from importlib import resources
from typing import Any

import numpy as np
import pytest

from job.analysis import text
from job.analysis.comparison import compare
from job.analysis.sides import sides_of
from job.core.exits import Exit, JobError
from job.core.recipe import from_toml
from job.runs.results import Results
from tests.support.made_up import results, with_predictions

ONE_SEED = (
    " One seed on each side cannot tell what that does: another seed alone may move the accuracy as far. "
    "Several seeds on a side would tell."
)
BROKEN = "This should not happen; look for the cause"


def seeds(engine: str, *, count: int = 3, accuracy: float = 0.9, noise: int = 0, **more: Any) -> list[Results]:
    """Each seed better by 0.1 points than the one before."""
    return [results(f"{engine[0]}{noise}-{n}", engine, seed=n, accuracy=accuracy + n / 1000, noise=noise + n, **more) for n in range(count)]


def resumed(run: Results, at: int = 390) -> Results:
    """The run as one that went on in TensorFlow."""
    steps = run.summary["steps"]
    parts = [("0001-aaaaaa", "torch", 1, at), ("0002-bbbbbb", "tensorflow", at + 1, steps)]
    contributions = [
        {"attempt": name, "engine": engine, "device": "cpu", engine: "1.0", "first_step": first, "last_step": last}
        for name, engine, first, last in parts
    ]
    return dataclasses.replace(run, summary={**run.summary, "engine": "tensorflow", "contributions": contributions})


def test_one_thing_run_twice():
    found = compare([results("a"), results("b")])
    assert found.verdict == "Reproduced: a and b are equal in all that is recorded, seed included, and in every bit of their results."
    assert found.decided
    assert not found.differences
    assert not found.irreproducible


def test_a_promise_that_is_broken():
    """The same in all that is recorded, other predictions: a fault in evaluation, for instance."""
    found = compare([results("a"), results("b", noise=3)])
    assert found.verdict.startswith(
        "Not reproducible: a and b (they differ in 1,824 of 10,000 predictions) are equal in all that is recorded, the seed included, and "
        f"should be equal in every bit. {BROKEN}: a fault, or something that is not recorded, such as the model of the processor."
    )
    assert "another seed" not in found.verdict
    assert found.irreproducible == {"a | b": "1,824 of 10,000 predictions"}
    unpromised = results("b", noise=3)
    unpromised.summary["nondeterministic"] = ["put_"]
    assert compare([results("a"), unpromised]).irreproducible == {}
    a = results("a")
    found = compare([a, dataclasses.replace(results("b"), logits=a.logits * np.float32(1.0001)), *seeds("tensorflow", noise=9)])
    assert found.irreproducible == {"a | b": "the logits, though no prediction"}
    assert BROKEN in found.verdict


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        ({"device": "NVIDIA H100"}, "device kind (cpu vs gpu) and device (cpu vs NVIDIA H100)"),
        ({"version": "2.0"}, "library versions (torch 1.0 vs torch 2.0)"),
    ],
)
def test_what_differs_is_named_and_not_another_seed(other, cause):
    found = compare([results("a"), results("b", noise=3, **other)])
    assert found.verdict.endswith(f"What differs: {cause}.{ONE_SEED}")
    assert list(found.sides) in (["torch, cpu", "torch, gpu"], ["torch, torch 1.0", "torch, torch 2.0"])
    assert not found.irreproducible
    assert found.decided


def test_other_threads_are_named_and_not_another_seed():
    found = compare([results("a"), results("b", noise=3, threads=8)])
    assert found.verdict.endswith("With the same seed, the possible cause of any difference is threads (2 vs 8).")
    assert not found.irreproducible


def test_another_version_of_the_program_is_another_side():
    runs = [results("a"), results("b", noise=3)]
    for run, source in zip(runs, ("a" * 64, "b" * 64), strict=True):
        own = {"attempt": "0001-aaaaaa", "engine": "torch", "device": "cpu", "torch": "1.0", "version": "0.1.0", "source": source}
        run.summary["contributions"] = [{**own, "first_step": 1, "last_step": run.summary["steps"]}]
    found = compare(runs)
    assert list(found.sides) == ["torch, code 0.1.0 aaaaaaaaaaaa", "torch, code 0.1.0 bbbbbbbbbbbb"]
    assert found.verdict.endswith(f"What differs: code (0.1.0 aaaaaaaaaaaa vs 0.1.0 bbbbbbbbbbbb).{ONE_SEED}")


def test_another_seed_is_said_where_seeds_differ():
    two = compare([results("a"), results("b", seed=1, noise=3, accuracy=0.95)])
    assert two.verdict == (
        "Of these two networks, b (torch) is better: 90.0 % vs 95.0 %, b minus a +5.0 points (95 % interval +4.3 to +5.7), p < 0.001. "
        "Both are "
        "the same but for seed (0 vs 1), so this is what another seed does."
    )
    threads = compare([results("a"), results("b", seed=1, noise=3, threads=8)])
    assert threads.verdict.endswith("the same but for seed (0 vs 1) and threads (2 vs 8), so this is what these do together.")


def test_a_run_of_two_engines_is_no_side_of_a_comparison_of_engines():
    mixed = resumed(results("mixed", noise=2))
    found = compare([results("a"), mixed])
    assert not found.decided
    assert found.verdict == (
        "No verdict: the runs are not comparable, they differ in engine. The engine: a run of two engines is no side of a comparison of "
        "engines."
    )
    assert [run.engine for run in found.figures] == ["torch", "torch → tensorflow"]
    assert "UNFAIR: a run of two engines" in text.table(found)
    assert compare([results("a"), mixed], anyway=True).verdict.startswith("Unfair comparison (engine differs): No difference can be seen")
    alike = compare([mixed, resumed(results("other", noise=3), at=780)])  # of one label, handed over at another step
    assert alike.decided
    assert alike.verdict.endswith("the possible cause of any difference is changed after step (390 vs 780).")


def test_a_run_given_twice_is_refused():
    a = results("a")
    for again in (a, dataclasses.replace(a, url="s3://bucket/copy", id="copy")):
        with pytest.raises(JobError, match=f"runs/a and {again.url} are the same run, {again.id}. Name each run once.") as error:
            compare([a, results("b", seed=1, noise=3), again])
        assert error.value.code == Exit.USAGE


def test_equally_good_networks_of_two_engines():
    found = compare([results("a", noise=1), results("b", "tensorflow", noise=2, accuracy=0.902)])
    assert found.verdict == (
        "No difference can be seen between these two networks: 90.0 % vs 90.2 %, b minus a +0.2 points (95 % interval −0.6 to +1.0), p "
        "= 0.64. "
        "A difference of 1.2 points would have been seen with 80 % power. What differs: engine (torch vs tensorflow) and library versions "
        f"(torch 1.0 vs tensorflow 1.0).{ONE_SEED}"
    )
    assert {row.what for row in found.differences} == {"engine", "library versions"}
    assert all(row.fair for row in found.differences)


def test_one_per_cent_flipped_to_wrong_is_seen():
    a = results("a", "tensorflow")
    predictions = a.logits.argmax(1)
    right = np.flatnonzero(predictions == a.labels)[:100]
    predictions[right] = (predictions[right] + 1) % 10
    found = compare([with_predictions(results("a"), predictions, "worse"), a])
    assert found.verdict.startswith(
        "Of these two networks, a (tensorflow) is better: 89.0 % vs 90.0 %, a minus worse +1.0 points (95 % interval +0.8 to +1.2), p < "
        "0.001."
    )
    pair = found.pairs["worse | a"]
    assert (pair.only_first, pair.only_second, pair.difference, pair.agreement) == (0, 100, 0.01, 0.99)


def test_no_discordant_pair_is_at_most_so_far_apart():
    found = compare([results("a"), results("b", "tensorflow")], margin=0.005)
    assert found.verdict.startswith(
        "The two runs are the same in every prediction: 90.0 % vs 90.0 %, and on other images at most ±0.04 points apart. The two "
        "networks are "
        "equal within 0.5 points: the 90 % interval, −0.03 to +0.03, lies inside (two one-sided tests, p < 0.001)."
    )


def test_a_truncated_test_set_is_refused():
    found = compare([results("a"), results("b", images=9_984)])
    assert not found.decided
    assert found.verdict.startswith("No verdict: the runs are not comparable, they differ in test images")
    assert not found.pairs
    assert "No paired test is possible" in compare([results("a"), results("b", images=9_984)], anyway=True).verdict


def test_another_dataset_is_refused():
    found = compare([results("a"), results("b", fingerprint="e" * 64)])
    assert not found.decided
    assert found.verdict == "No verdict: the runs are not comparable, they differ in data fingerprint."
    assert "UNFAIR: other images or labels" in text.table(found)


def test_other_initial_weights_are_refused():
    pair = [results(name) for name in "ab"]
    pair = [dataclasses.replace(run, record={**run.record, "init_from_sha256": run.id * 64}) for run in pair]
    found = compare(pair)
    assert found.verdict == "No verdict: the runs are not comparable, they differ in initial weights."
    assert "UNFAIR: another start" in text.table(found)


def test_another_arithmetic_is_stated():
    pair = [results(name) for name in "ab"]
    pair[1] = dataclasses.replace(pair[1], record={**pair[1].record, "arithmetic": 2})
    found = compare(pair)
    assert found.decided
    (row,) = (row for row in found.differences if row.what == "arithmetic")
    assert (row.values, row.fair) == (["1", "2"], True)


def test_other_epochs_are_refused_unless_asked():
    pair = [results("a"), results("b", epochs=30, noise=5)]
    assert "differ in epochs done and recipe: epochs" in compare(pair).verdict
    anyway = compare(pair, anyway=True)
    assert anyway.decided
    assert anyway.verdict.startswith("Unfair comparison (epochs done and recipe: epochs differ): No difference can be seen")


def test_several_seeds():
    found = compare([*seeds("torch"), *seeds("tensorflow", accuracy=0.9005, noise=9)], margin=0.005)
    assert found.verdict == (
        "No difference can be seen between torch and tensorflow: 90.1 % vs 90.1 % on average over 3 and 3 seeds, tensorflow minus torch "
        "+0.05 "
        "points (95 % interval −0.2 to +0.3), p = 0.63. A difference of 0.3 points would have been seen with 80 % power. The sides are "
        "equal "
        "within 0.5 points: the 90 % interval, −0.1 to +0.2, lies inside (two one-sided tests, p = 0.003)."
    )
    side = found.sides["tensorflow"]
    assert (side.runs, side.seeds) == (["t9-0", "t9-1", "t9-2"], [0, 1, 2])
    assert side.accuracy.mean == pytest.approx(0.9015)
    assert side.accuracy.low < side.accuracy.mean < side.accuracy.high
    better = compare([*seeds("torch"), *seeds("tensorflow", accuracy=0.93, noise=9)])
    assert better.verdict.startswith("tensorflow is better: 90.1 % vs 93.1 %")
    shown = text.table(better)
    assert "tensorflow minus torch        +3.0" in shown
    assert "difference of so many points with 80 % power (tensorflow minus torch): 0.25: 5 (to be safe 9); 0.5: 3; 1: 2" in shown


def test_one_seed_against_three_speaks_of_the_sides_with_the_spread_of_the_three():
    alone, three = results("t", accuracy=0.903, noise=30), seeds("tensorflow", noise=9)
    found = compare([alone, *three])
    assert found.verdict == (
        "No difference can be seen between torch and tensorflow: 90.3 % vs 90.1 % on average over 1 and 3 seeds, tensorflow minus torch "
        "−0.2 "
        "points (95 % interval −0.7 to +0.3), p = 0.23. A difference of 0.7 points would have been seen with 80 % power. torch has one "
        "seed, "
        "which cannot tell how far other seeds of it spread: as far as those of the others is assumed."
    )
    assert next(iter(found.seeds.values())).borrowed
    assert not compare([alone, *seeds("tensorflow", noise=9, count=2)]).verdict.startswith("tensorflow is")
    # McNemar's test would name single runs
    wide = [results(f"k{n}", "tensorflow", seed=n, accuracy=a, noise=n) for n, a in enumerate((0.88, 0.90, 0.92))]
    found = compare([alone, *wide])
    assert sum(pair.p < 0.05 for name, pair in found.pairs.items() if name.startswith("t |")) == 2
    assert found.verdict.startswith("No difference can be seen between torch and tensorflow")


def test_a_seed_that_ran_twice_counts_once():
    runs = [results("a"), results("b", threads=8, noise=4), *seeds("tensorflow", noise=9)]
    found = compare(runs)
    assert found.sides["torch"].seeds == [0]
    assert "over 1 and 3 seeds" in found.verdict
    both = compare([*runs[:2], results("k", "tensorflow", noise=7)])
    assert "(Of several runs with the same seed, this is the first.)" in both.verdict


def test_seeds_of_several_recipes_are_corrected_for_many_pairs():
    runs = [results(f"{d}-{n}", seed=n, dropout=d, accuracy=0.9 + d / 10 + n / 1000, noise=n) for d in (0.3, 0.4, 0.7) for n in range(3)]
    assert compare(runs).verdict.startswith("No verdict")
    found = compare(runs, anyway=True, margin=0.02)
    assert list(found.sides) == ["torch, dropout 0.3", "torch, dropout 0.4", "torch, dropout 0.7"]
    assert "3 of 3 pairs of sides differ (t tests over seeds and images, with Holm's correction)" in found.verdict
    assert found.verdict.endswith(
        "Equal within 2 points: 1 of 3 pairs (two one-sided tests, with Holm's correction): torch, dropout 0.3 and torch, dropout 0.4."
    )


def test_three_networks_are_corrected_for_many_pairs():
    runs = [results("a", noise=1), results("b", "tensorflow", noise=2), results("c", device="NVIDIA H100", noise=3, accuracy=0.95)]
    found = compare(runs)
    assert found.verdict == (
        "2 of 3 pairs of networks differ (McNemar's test, with Holm's correction): torch, cpu and torch, gpu; tensorflow and torch, "
        "gpu. One seed on each side cannot tell whether the sides differ: another seed alone may move the accuracy as far."
    )
    assert "same predictions" in text.table(found)


def test_seeds_of_one_side_are_no_comparison():
    found = compare([results(str(n), seed=n, noise=n, accuracy=0.9 + n / 100) for n in range(3)])
    assert found.verdict == (
        "One side only (torch, 3 seeds): 91.0 % on average, with a standard deviation of 1.00 points between seeds; nothing to compare "
        "it with."
    )


def test_classes_and_confusions_of_the_sides():
    found = compare([*seeds("torch"), *seeds("tensorflow", accuracy=0.93, noise=9)])
    torch, keras = (found.sides[name] for name in ("torch", "tensorflow"))
    cat = torch.per_class[3]
    assert cat is not None
    assert cat.mean == pytest.approx(np.mean([run.per_class[3] for run in found.figures[:3]]))
    assert cat.low < cat.mean < cat.high
    assert np.diag(torch.confusion) == pytest.approx([share.mean for share in torch.per_class if share])
    difference = np.array(found.confusion_differences["torch | tensorflow"])
    assert difference == pytest.approx(np.array(keras.confusion) - np.array(torch.confusion))
    assert difference.sum(axis=1) == pytest.approx(0, abs=1e-12)
    assert np.diag(difference).mean() == pytest.approx(0.03, abs=0.002)


def test_everything_is_json_with_its_direction():
    stored = json.loads(
        json.dumps(dataclasses.asdict(compare([results("a"), *seeds("tensorflow", noise=9)], margin=0.01)), allow_nan=False)
    )
    assert stored["seeds"]["torch | tensorflow"]["direction"] == "tensorflow minus torch"
    assert stored["pairs"]["a | t9-0"]["direction"] == "t9-0 minus a"
    assert stored["seeds"]["torch | tensorflow"]["equivalence"]["equal"] in (True, False)
    assert {"seeds", "cautious", "images"} <= stored["seeds"]["torch | tensorflow"]["needed"][0].keys()


def test_many_pairs_are_counted_and_not_listed():
    runs = [results(str(n), seed=n, noise=n, images=200) for n in range(11)]
    assert "55 pairs of runs: --json has them one by one." in text.table(compare(runs))


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


def test_fields_without_effect_make_no_side():
    runs = [results("a", optimizer="adam", momentum=0.9), results("b", optimizer="adam", momentum=0.5, seed=1, truncated_test=True)]
    assert list(sides_of(runs)) == ["torch"]


def test_runs_of_the_same_name_are_told_apart():
    other = dataclasses.replace(results("same", noise=2, seed=1), url="s3://bucket/same")
    assert [run.id for run in compare([results("same"), other]).figures] == ["runs/same", "s3://bucket/same"]


def test_the_table_keeps_training_accuracy_apart():
    found = compare([results("a"), results("b", "tensorflow", noise=2)])
    shown = text.table(found)
    assert shown.splitlines()[0].endswith("(training)")
    assert "99.0 %" in shown
    assert shown.endswith(found.verdict)
