"""Recipes: files, values and the schedule."""

from importlib import resources
from itertools import pairwise

import pytest

from job.core.recipe import Recipe, differences, from_toml, to_toml
from job.core.schedule import image_size, learning_rate

FILES = sorted((path for path in (resources.files("job") / "recipes").iterdir() if path.name.endswith(".toml")), key=lambda path: path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_recipe_files_load_and_survive_a_round_trip(path):
    recipe = from_toml(path.read_text(), path.name)
    assert f"{recipe.name}.toml" == path.name
    assert from_toml(to_toml(recipe), "copy") == recipe
    recipe.architecture()


def test_the_default_file_is_the_default():
    default = next(path for path in FILES if path.name == "default.toml")
    assert from_toml(default.read_text(), "default") == Recipe()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", "ten"),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", -1),
        ("image_size", 62),
        ("image_size", 1025),
        ("progressive_resizing", ""),
        ("progressive_resizing", "96"),
        ("progressive_resizing", "96:0.5,160:0.25"),
        ("progressive_resizing", "96:1.0"),
        ("progressive_resizing", "96:0.0"),
        ("progressive_resizing", "96:0.5 160:0.5"),
        ("progressive_resizing", "62:0.5"),
        ("progressive_resizing", "160:0.25 96:0.5"),
        ("progressive_resizing", "96:0.25 96:0.5"),
        ("width", 0),
        ("validation", -1),
        ("precision", "fp16"),
        ("normalization", "none"),
        ("dropout", 1),
        ("dropout_position", "inside"),
        ("optimizer", "rmsprop"),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "inf"),
        ("momentum", 1.0),
        ("beta2", -0.1),
        ("epsilon", 0),
        ("weight_decay", -1e-4),
        ("clip_norm", -1),
        ("label_smoothing", 1),
        ("warmup", 1.01),
        ("flip", "maybe"),
        ("flip", 1),
        ("name", ""),
        ("name", 3),
        ("name", "two\nlines"),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match="must be") as caught:
        Recipe().with_values({field: value})
    message = str(caught.value)
    assert message.startswith(f"{field} must be")
    assert f"Received: {field} = " in message
    assert str(value).split("\n")[0] in message


@pytest.mark.parametrize(
    ("field", "text", "value"), [("epochs", "3", 3), ("learning_rate", "1e-3", 1e-3), ("flip", "No", False), ("width", 1, 1.0)]
)
def test_values_from_a_command_line_get_the_type_of_their_field(field, text, value):
    found = getattr(Recipe().with_values({field: text}), field)
    assert found == value
    assert type(found) is type(value)


def test_sizes_from_the_image_size_on_are_left_out():
    recipe = Recipe(image_size=128, progressive_resizing="96:0.5 128:0.2 160:0.2")
    assert recipe.image_sizes == (96, 128)
    assert [image_size(recipe, epoch, 10) for epoch in range(10)] == [96] * 5 + [128] * 5
    assert Recipe(image_size=96, progressive_resizing="96:0.5").image_sizes == (96,)


@pytest.mark.parametrize(
    ("shares", "epochs", "sizes"),
    [
        ("96:0.5 160:0.25", 1, [224]),
        ("96:0.5 160:0.25", 2, [96, 224]),
        ("96:0.5 160:0.25", 3, [96, 160, 224]),
        ("96:0.35 160:0.23", 20, [96] * 7 + [160] * 4 + [224] * 9),
        ("96:0.35 160:0.23", 100, [96] * 35 + [160] * 23 + [224] * 42),
    ],
)
def test_epochs_are_shared_out_to_the_image_sizes_and_the_last_has_the_final_one(shares, epochs, sizes):
    recipe = Recipe(progressive_resizing=shares)
    assert [image_size(recipe, epoch, epochs) for epoch in range(epochs)] == sizes
    assert {image_size(Recipe(), epoch, epochs) for epoch in range(epochs)} == {224}


def test_fast_takes_half_the_operations_of_default():
    """Evaluations included: a third of a step for each of 10,000 test images beside 50,000 training images."""

    def operations(recipe):
        steps = sum(recipe.architecture(image_size=image_size(recipe, epoch, recipe.epochs)).flop for epoch in range(recipe.epochs))
        return 50_000 * steps + recipe.epochs * 10_000 * 2 * recipe.architecture().macs

    fast, default = (from_toml((resources.files("job") / "recipes" / f"{name}.toml").read_text(), name) for name in ("fast", "default"))
    assert fast.epochs == default.epochs
    assert operations(fast) <= operations(default) / 2


def test_an_unknown_key_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"Did you mean learning_rate\?"):
        Recipe().with_values({"learning_rte": 1})


@pytest.mark.parametrize("text", ["epochs = ", "epochs = 0", "speed = 3"])
def test_a_bad_file_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"^recipe mine\.toml: "):
        from_toml(text, "mine.toml")


def test_differences_name_both_values():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b: 3 stored, 2 asked for", "c: 4 stored, None asked for"]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedule_begins_with_a_warmup_and_ends_near_zero(schedule):
    recipe = Recipe(schedule=schedule, warmup=0.1, learning_rate=0.5)
    rates = [learning_rate(recipe, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.5 / 100)
    assert rates[99] == rates[100] == max(rates) == 0.5
    assert min(rates) > 0
    assert rates[-1] == pytest.approx({"linear": 0.5 / 900, "cosine": 0.5 * (3.1416 / 1800) ** 2, "constant": 0.5}[schedule], rel=1e-3)
    assert all(a >= b for a, b in pairwise(rates[100:]))


def test_without_warmup_the_first_rate_is_the_peak():
    for total in (1, 7):
        assert learning_rate(Recipe(warmup=0), 0, total) == Recipe().learning_rate
