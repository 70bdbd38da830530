"""Comparison of traces: what is named first, by how much, what is refused.  The traces are made of random numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from job.cli.parity import parity
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.schedule import learning_rate
from job.parity import recomputed
from job.parity.compare import ALONE, KINDS, LIMITS, compare, sequence, stages
from job.parity.difference import distance
from job.parity.record import labels_of, plans
from job.parity.tracefile import Trace, TraceWriter, digest_of, opened
from job.storage.opening import split

RECIPE = Recipe(batch_size=4, image_size=64, width=1 / 64, precision="fp64")
STEPS, AT = 3, [0, 2]


def shape_of(kind, name, table):
    sides = {"normalize": (3, 32, 32), "resize": (3, 64, 64), **{layer.name: layer.out_shape for layer in table.layers}}
    if kind in ("inputs", "activations"):
        return (4, *(sides[name] if name else (3, 32, 32)))
    return {"logits": (4, 10), "evaluation": (5, 10)}.get(kind) or table.parameter_shapes[name]


def random_numbers(recipe, table):
    """key → array: what a network computes, at random."""
    generator = np.random.Generator(np.random.PCG64(1))
    found = {}
    for step, kind, name, key in sequence(recipe, table, STEPS, AT):
        if kind in ("initial", "activations", "logits", "evaluation", "gradients") or (kind == "inputs" and step in AT):
            found[key] = generator.normal(size=shape_of(kind, name, table)).astype("float64" if recipe.precision == "fp64" else "float32")
    return found


def outcomes(arrays, recipe, table):
    """(losses, hits) of the logits; at random where there are none."""
    losses, hits = np.linspace(3, 2, STEPS), [0] * STEPS
    for step, plan in enumerate(plans(recipe, table, 0, STEPS)):
        if step in AT:
            labels = labels_of(plan.indices)
            losses[step] = recomputed.loss(arrays[f"{step}/logits"], labels, recipe.label_smoothing)
            hits[step] = int((arrays[f"{step}/logits"].argmax(1) == labels).sum())
    return losses, hits


def states(arrays, recipe, table):
    """key → array: slots and weights after each step.  A step that is not observed has gradients of 1."""
    found = {}
    shapes = table.parameter_shapes
    before = {name: (arrays[f"initial/{name}"], {slot: np.zeros(shape) for slot in recipe.slots}) for name, shape in shapes.items()}
    for step in range(STEPS):
        gradients = {name: arrays.get(f"{step}/gradients/{name}", np.ones(shape)) for name, shape in shapes.items()}
        factor = recomputed.clip_factor(recipe, gradients.values())
        for name, (weight, slots) in before.items():
            rate, decays = learning_rate(recipe, step, STEPS), name.endswith(".weight")
            new = recomputed.update(recipe, weight, slots, gradients[name] * factor, decays=decays, rate=rate, number=step + 1)
            before[name] = new
            found |= {f"{step}/weights/{name}": new[0], **{f"{step}/slots/{slot}/{name}": array for slot, array in new[1].items()}}
    return {key: array.astype("float64" if recipe.precision == "fp64" else "float32") for key, array in found.items()}


def fabricate(path, recipe=RECIPE, changes=None, digests=None, **facts):
    """A trace of random numbers, the same ones each time, and what follows from them; `changes`: key → function of the array."""
    table = recipe.architecture()
    arrays = random_numbers(recipe, table)
    losses, hits = outcomes(arrays, recipe, table)
    arrays |= states(arrays, recipe, table) | {"losses": losses.astype("float64" if recipe.precision == "fp64" else "float32")}
    arrays = {key: (changes or {}).get(key, lambda a: a)(array) for key, array in arrays.items()}
    told = {key: f"digest of {key}" for _, kind, _, key in sequence(recipe, table, STEPS, AT) if kind in ("inputs", "masks")}
    told |= {f"loaded/{key[2:]}": digest_of(array) for key, array in arrays.items() if key.startswith(("0/slots", "0/weights"))}
    told |= {"saved/evaluation": "of the trained", "loaded/evaluation": "of the trained"}
    writer = TraceWriter(path.parent)
    for key, array in arrays.items():
        writer.add(key, array)
    found = {"recipe": recipe.as_dict(), "seed": 0, "steps": STEPS, "at": AT, "threads": 1, "hits": hits}
    environment = {"engine": "torch", "torch": "1", "device": "cpu"}
    writer.finish(path, {**found, "digests": {**told, **(digests or {})}, "environment": environment, **facts})
    return path


def larger(by, where=0):
    """Add to one element."""

    def change(array):
        array = array.copy()
        array.reshape(-1)[where] += by
        return array

    return change


@pytest.fixture
def pair(tmp_path):
    """pair(changes, …): a sound trace and one that was changed."""

    def make(changes=None, recipe=RECIPE, **facts):
        one = fabricate(tmp_path / "a.safetensors", recipe)
        other = fabricate(tmp_path / "b.safetensors", facts.pop("other", recipe), changes, **facts)
        return one, other

    return make


def compared(one, other, **limits):
    with opened(str(one)) as a, opened(str(other)) as b:
        return compare(a, b, limits)


def command(*words):
    return CliRunner().invoke(parity, [str(w) for w in words], standalone_mode=False)


def test_equal_traces(pair):
    one, other = pair()
    found = compared(one, other)
    assert found.first is None
    assert found.failure is None
    result = command(one, other)
    assert result.return_value == 0
    assert "equal to the bit" in result.output


def test_the_first_in_the_order_of_computation_is_named(pair):
    late = {"0/gradients/features.0.bias": larger(1), "0/gradients/classifier.4.weight": larger(1), "2/logits": larger(1)}
    found = compared(*pair(late))
    assert (found.failure.step, found.failure.kind, found.failure.name) == (0, "gradients", "classifier.4.weight")
    found = compared(*pair({**late, "0/activations/features.8": larger(1)}))
    assert found.failure.name == "features.8"
    found = compared(*pair({**late, "0/activations/classifier.0": larger(1)}, digests={"0/masks/classifier.0": "other"}))
    assert found.failure.kind == "masks"
    assert found.failure.note == "their digests differ"


def test_small_differences_are_told_and_pass(pair):
    one, other = pair({"0/activations/features.3": larger(1e-13)})
    found = compared(one, other)
    assert found.failure is None
    assert (found.first.kind, found.first.name) == ("activations", "features.3")
    result = command(one, other)
    assert result.return_value == 0
    assert "first difference:   the output of features.3 at step 0: 1e-13 absolute" in result.output
    assert "all within the limits" in result.output


def test_a_difference_beyond_the_limit_fails(pair):
    one, other = pair({"2/weights/features.6.bias": larger(1e-3)})
    result = command(one, other)
    assert result.return_value == 1
    assert "first beyond limit: b alone: the update of features.6.bias by its own gradients at step 2: 0.001 absolute" in result.output
    row = next(line for line in result.output.splitlines() if line.startswith("features.6"))
    assert row.count("! ") == 2
    result = command(one, other, "--limit", "update=1")
    assert "first beyond limit: the new weights of features.6.bias at step 2: 0.001 absolute" in result.output
    assert command(one, other, "--limit", "update=1", "--limit", "weights/features.6=1").return_value == 0
    assert command(one, other, "--limit", "update=1", "--limit", "weights/features.8=1").return_value == 1


def test_loss_of_a_step_between(pair):
    found = compared(*pair({"losses": larger(1e-3, where=1)}))
    assert (found.failure.step, found.failure.kind) == (1, "loss")


def test_inputs_are_compared_at_every_step(pair):
    found = compared(*pair(digests={"1/inputs": "other"}))
    assert (found.failure.step, found.failure.kind) == (1, "inputs")
    found = compared(*pair({"2/inputs": larger(3)}, digests={"2/inputs": "other"}))
    assert found.failure.absolute == pytest.approx(3)


def test_float32_is_judged_at_the_first_step(pair):
    recipe = RECIPE.with_values({"precision": "fp32"})
    assert compared(*pair({"2/evaluation": larger(1)}, recipe)).failure is None
    assert compared(*pair({"0/evaluation": larger(1e-3)}, recipe)).failure.kind == "evaluation"
    assert compared(*pair({"0/logits": larger(1e-3)}, recipe)).failure.kind == "logits"
    assert compared(*pair({"0/weights/features.0.bias": larger(1)}, recipe), update=99).failure.kind == "weights"
    gradient = "0/gradients/features.3.weight"
    assert compared(*pair({gradient: lambda a: a * np.float32(1.009)}, recipe), update=9).failure is None
    assert compared(*pair({gradient: lambda a: a * np.float32(1.011)}, recipe), update=9).failure.kind == "gradients"


def test_bfloat16_has_the_limits_of_float32_where_it_computes_in_float32(pair):
    recipe = RECIPE.with_values({"precision": "bf16"})

    def failure(key, by):
        return compared(*pair({key: lambda a: a * np.float32(1 + by)}, recipe), update=9).failure

    assert failure("0/activations/resize", 1e-4).name == "resize"
    assert failure("0/activations/features.0", 5e-3) is None
    assert failure("0/activations/features.0", 3e-2).name == "features.0"
    assert failure("0/gradients/features.0.weight", 0.5) is None
    assert failure("0/gradients/classifier.6.weight", 2e-2).kind == "gradients"
    assert failure("0/gradients/classifier.6.bias", 2e-2) is None


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
@pytest.mark.parametrize(
    ("change", "kind", "name", "step"),
    [
        ({"losses": larger(1e-4, where=2)}, "cross-entropy", "", 2),
        ({"2/weights/features.0.bias": larger(1e-4)}, "update", "features.0.bias", 2),
        ({"2/slots/momentum/classifier.1.weight": larger(1e-2)}, "update", "momentum/classifier.1.weight", 2),
        ({"other/evaluation": larger(1)}, "evaluation", "other weights", 0),
    ],
)
def test_what_every_precision_shows(pair, precision, change, kind, name, step):
    """A trace in itself is judged at every observed step, and the evaluation of other weights."""
    found = compared(*pair(change, RECIPE.with_values({"precision": precision})))
    assert (found.failure.kind, found.failure.name, found.failure.step) == (kind, name, step)
    assert found.failure.trace == ("" if kind == "evaluation" else "b")


@pytest.mark.parametrize("trace", ["a", "b"])
def test_hits_that_the_logits_do_not_give(pair, trace):
    one, other = pair(hits=[9, 0, 9])
    found = compared(*((other, one) if trace == "a" else (one, other)))
    assert (found.failure.kind, found.failure.trace, found.failure.step) == ("hits", trace, 0)
    assert found.failure.note.startswith("9 were counted, its logits say ")
    assert (
        f"{trace} alone: the count of hits at step 0: 9 were counted" in command(*((other, one) if trace == "a" else (one, other))).output
    )


def test_a_state_that_is_loaded_otherwise_than_it_was_saved(pair):
    found = compared(*pair(digests={"loaded/slots/momentum/features.3.bias": "of zeros"}))
    assert (found.failure.kind, found.failure.name, found.failure.note) == ("loaded", "momentum/features.3.bias", "not what was saved")
    result = command(*pair(digests={"loaded/evaluation": "of others"}))
    assert "b alone: the test logits after saving and loading at step 0: not what they were before" in result.output


def test_weights_under_adam_have_room_for_its_division(pair):
    change = {"0/weights/features.3.weight": lambda a: a * (1 + 1e-9)}
    assert compared(*pair(change), update=9).failure.kind == "weights"
    adam = RECIPE.with_values({"optimizer": "adam"})
    assert compared(*pair(change, adam), update=9).failure is None
    assert compared(*pair(change, adam)).failure.kind == "update"
    assert compared(*pair({"0/weights/features.3.weight": lambda a: a * (1 + 1e-7)}, adam), update=9).failure.kind == "weights"
    assert compared(*pair({"0/slots/first_moment/features.3.weight": lambda a: a * (1 + 1e-9)}, adam), update=9).failure.kind == "slots"


def test_numbers_of_a_difference():
    a = np.array([1.0, 2.0, -4.0])
    assert distance(a, a) == (0, 0, 0)
    b = a.copy()
    b[1] = np.nextafter(2.0, 3.0)
    absolute, relative, ulp = distance(a, b)
    assert (absolute, relative, ulp) == (2**-51, 2**-53, 1)
    assert distance(np.float32(a), np.float32([1, 2, -4.5])) == (0.5, 0.5 / 4.5, 0.5 / 2**-21)
    assert distance(np.array([3.0, 0]), np.array([3.0, 5.0]), by_norm=True)[1] == pytest.approx(5 / 34**0.5)


@pytest.mark.parametrize(
    ("change", "note"),
    [(lambda a: a[:2], "shapes (4, 10) and (2, 10)"), (lambda a: np.where(a == a[0, 0], np.nan, a), "not all numbers are finite")],
)
def test_what_has_no_difference_in_numbers(pair, change, note):
    one, other = pair({"0/logits": change})
    assert compared(one, other).failure.note == note
    told = json.loads(command(one, other, "--json").output)
    assert told["first_failure"]["relative"] is None
    assert note in command(one, other).output


def test_json_says_all(pair):
    one, other = pair({"2/logits": larger(1e-3)})
    result = command(one, other, "--json")
    assert result.return_value == 1
    told = json.loads(result.output)
    assert told["equal"] is False
    assert told["first_failure"]["kind"] == "logits"
    assert told["limits"] == LIMITS["fp64"]
    expected = {(step, kind) for step, kind, _, _ in sequence(RECIPE, RECIPE.architecture(), STEPS, AT)}
    assert {(row["step"], row["kind"]) for row in told["differences"]} == expected
    assert {row["kind"] for row in told["differences"]} == set(KINDS)
    assert {row["trace"] for row in told["differences"] if row["kind"] in ALONE} == {"a", "b"}
    assert told["a"]["recipe"] == RECIPE.as_dict()


def test_traces_of_other_things_are_refused(pair):
    one, other = pair(other=RECIPE.with_values({"momentum": 0.8, "name": "another"}), seed=7)
    with pytest.raises(JobError) as error:
        compared(one, other)
    assert error.value.code is Exit.USAGE
    assert "momentum: 0.9 and 0.8" in str(error.value)
    assert "seed: 0 and 7" in str(error.value)
    assert "name" not in str(error.value)


@pytest.mark.parametrize("offset", [3, 12, 400, 4000, 40_000, -1])
def test_a_flipped_bit_is_seen(pair, offset):
    path, _ = pair()
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(JobError) as error:
        Trace(path, "a")
    assert error.value.code in (Exit.DATA, Exit.USAGE)
    assert str(error.value).startswith("a: ")


def test_a_changed_fact_is_seen(pair):
    path, _ = pair()
    path.write_bytes(path.read_bytes().replace(b'"seed":"0"', b'"seed":"1"'))
    with pytest.raises(JobError) as error:
        Trace(path, "a")
    assert error.value.code is Exit.DATA


@pytest.mark.parametrize("size", [0, 5, 1000, -8])
def test_a_truncated_file_is_seen(pair, size):
    path, other = pair()
    path.write_bytes(path.read_bytes()[:size])
    result = command(path, other)
    assert result.exception.code is Exit.DATA
    assert str(path) in str(result.exception)


def test_a_checkpoint_is_no_trace(pair, tmp_path):
    _, other = pair()
    save_file({"features.0.weight": np.zeros(3)}, tmp_path / "model.safetensors")
    assert command(tmp_path / "model.safetensors", other).exception.code is Exit.USAGE


def test_a_missing_file_is_named(pair, tmp_path):
    one, _ = pair()
    result = command(one, tmp_path / "none.safetensors")
    assert result.exception.code is Exit.USAGE
    assert "there is no such file" in str(result.exception)


@pytest.mark.parametrize("url", ["", "traces/", "s3://bucket"])
def test_what_names_no_file_is_refused(url):
    with pytest.raises(JobError) as error:
        split(url)
    assert error.value.code is Exit.USAGE


@pytest.mark.parametrize("pair_", ["logits", "logits=", "logits=-1", "logit=1", "logits=nan"])
def test_bad_limits_are_refused(pair, pair_):
    assert command(*pair(), "--limit", pair_).exception.code is Exit.USAGE


def test_rows_follow_the_network():
    table = replace(RECIPE, dropout_position="after").architecture()
    names = stages(table)
    assert names[:3] == ("normalize", "resize", "features.0")
    assert names[-2:] == ("classifier.dropout", "classifier.6")
