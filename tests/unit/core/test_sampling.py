"""The streams of random numbers, and the matrices that crop, resize and pool."""

import hashlib

import numpy as np
import pytest

from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sampling import (
    CROP_PADDING,
    OFFSETS,
    Purpose,
    bits,
    permutation,
    plan,
    pool_matrix,
    resize_matrix,
    row_keys,
    selections,
    squares,
    steps_per_epoch,
    uniform,
    validation_split,
)

RECIPE = Recipe(batch_size=16, image_size=64, width=1 / 16)
ARCHITECTURE = RECIPE.architecture()


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<")).tobytes() for a in arrays)).hexdigest()[:16]


def parts(chosen):
    """What is random in a plan."""
    return chosen.indices, chosen.rows, chosen.columns, chosen.dropout


def test_permutation_visits_each_image_once_in_another_order_each_epoch():
    orders = [permutation(seed, epoch, 1000) for seed, epoch in ((3, 0), (3, 1), (4, 0))]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
        assert not np.array_equal(order, np.arange(1000))
    assert len({digest(order) for order in orders}) == 3
    np.testing.assert_array_equal(orders[0], permutation(3, 0, 1000))


def test_the_streams_are_what_they_were():
    """A run that is continued by a later version draws the same numbers."""
    found = {
        "bits": digest(bits(7, Purpose.IMAGES, 8, major=2, minor=5)),
        "permutation": digest(permutation(7, 3, 500)),
        "plan": digest(*parts(plan(RECIPE, ARCHITECTURE, 7, permutation(7, 3, 500), epoch=3, step=11))),
        "uniform": digest(uniform(7, 4, 101)),
        "weights": digest(*(array for _, array in initial_weights(RECIPE, ARCHITECTURE, 7))),
        "validation": digest(*validation_split(7, (np.arange(500) % 10).astype(np.uint8), 50)),
    }
    assert found == {
        "bits": "2cc57b9e73f51121",
        "permutation": "9808f2380dd9fb99",
        "plan": "17cf5e07d6a903c3",
        "uniform": "a673ff1e8d115546",
        "weights": "de829502409191d4",
        "validation": "33e78822fa7a3bc6",
    }


def test_plan_depends_on_its_arguments_only():
    order = permutation(1, 2, 100)
    first = plan(RECIPE, ARCHITECTURE, 1, order, epoch=2, step=3)
    state = np.random.get_state()
    plan(RECIPE, ARCHITECTURE, 1, order, epoch=2, step=4)
    second = plan(RECIPE, ARCHITECTURE, 1, order, epoch=2, step=3)
    for one, other in zip(parts(first), parts(second), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])
    np.testing.assert_array_equal(first.indices, order[48:64])


@pytest.mark.parametrize("changed", [{"seed": 2}, {"epoch": 3}, {"step": 4}])
def test_plans_of_other_steps_differ_in_every_part(changed):
    order = permutation(1, 2, 100)

    def draw(*, seed, epoch, step):
        return plan(RECIPE, ARCHITECTURE, seed, order, epoch=epoch, step=step)

    arguments = {"seed": 1, "epoch": 2, "step": 3}
    for one, other in list(zip(parts(draw(**arguments)), parts(draw(**arguments | changed)), strict=True))[1:]:
        assert not np.array_equal(one, other)


def test_plan_draws_every_offset_and_flips_half_the_images():
    recipe = RECIPE.with_values({"batch_size": 9000})
    chosen = plan(recipe, ARCHITECTURE, 5, np.arange(9000), epoch=0, step=0)
    for counts in (np.bincount(chosen.rows, minlength=OFFSETS), np.bincount(chosen.columns % OFFSETS, minlength=OFFSETS)):
        assert len(counts) == OFFSETS
        assert abs(counts - 1000).max() < 150  # five deviations
    assert abs((chosen.columns >= OFFSETS).mean() - 0.5) < 0.027
    assert abs(np.corrcoef(chosen.rows, chosen.columns % OFFSETS)[0, 1]) < 0.05


def test_cutout_has_its_centre_anywhere_and_leaves_the_other_draws_as_they_are():
    recipe, order = RECIPE.with_values({"batch_size": 9000}), np.arange(9000)
    usual = plan(recipe, ARCHITECTURE, 5, order, epoch=0, step=0)
    chosen = plan(recipe.with_values({"cutout": 8}), ARCHITECTURE, 5, order, epoch=0, step=0)
    assert not usual.centres.any()
    for one, other in zip(parts(usual), parts(chosen), strict=True):
        np.testing.assert_array_equal(one, other)
    for counts in map(np.bincount, chosen.centres):
        assert len(counts) == 32
        assert abs(counts - 9000 / 32).max() < 85  # five deviations
    assert abs(np.corrcoef(*chosen.centres)[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("side", "first", "middle"), [(8, "11110000", "00111111"), (9, "11111000", "00111111"), (32, "11111111", "11111111")]
)
def test_squares_are_as_wide_as_they_should_be_and_cut_at_the_border(side, first, middle):
    rows = squares(side)
    assert ("".join(str(int(x)) for x in rows[0][:8]), "".join(str(int(x)) for x in rows[6][:8])) == (first, middle)
    assert rows[16].sum() == side


def test_without_augmentation_the_selection_is_the_identity():
    recipe = RECIPE.with_values({"crop": False, "flip": False})
    chosen = plan(recipe, ARCHITECTURE, 5, np.arange(64), epoch=0, step=1)
    table = selections()
    for numbers in (chosen.rows, chosen.columns):
        for number in numbers:
            np.testing.assert_array_equal(table[number], np.eye(32))


def test_no_two_dropout_streams_meet():
    keys = [row_keys(9, step, layer, 64) for step in range(20) for layer in range(2)]
    assert len(np.unique(np.concatenate(keys))) > 40 * 64 - 3


def test_an_odd_batch_is_the_beginning_of_an_even_one():
    np.testing.assert_array_equal(row_keys(1, 2, 0, 7), row_keys(1, 2, 0, 8)[:7])
    assert steps_per_epoch(100, 16) == 6


def test_uniform_fills_its_range():
    numbers = uniform(3, 0, 100_000)
    assert numbers.dtype == np.float32
    assert -1 <= numbers.min() < -0.999
    assert 0.999 < numbers.max() < 1
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 3**-0.5) < 0.01


def test_selections_crop_and_flip_as_reflect_padding_and_slicing_do():
    image = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (32, 32)).astype(np.float32)
    padded = np.pad(image, CROP_PADDING, mode="reflect")
    table = selections()
    assert table.shape == (2 * OFFSETS, 32, 32)
    for row in range(OFFSETS):
        for column in range(OFFSETS):
            window = padded[row : row + 32, column : column + 32]
            np.testing.assert_array_equal(table[row] @ image @ table[column].T, window)
            np.testing.assert_array_equal(table[row] @ image @ table[OFFSETS + column].T, window[:, ::-1])


@pytest.mark.parametrize("target", [16, 32, 64, 96, 224])
def test_resize_keeps_constants_and_reproduces_a_ramp(target):
    matrix = resize_matrix(32, target)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=0, atol=1e-15)
    assert matrix.min() >= 0
    position = np.clip((np.arange(target) + 0.5) * 32 / target - 0.5, 0, 31)
    np.testing.assert_allclose(matrix @ np.arange(32.0), position, rtol=0, atol=1e-13)


def test_resize_to_the_same_size_is_the_identity():
    np.testing.assert_array_equal(resize_matrix(32, 32), np.eye(32))
    np.testing.assert_array_equal(resize_matrix(1, 3), np.ones((3, 1)))


def test_pooling_to_the_same_size_is_the_identity():
    np.testing.assert_array_equal(pool_matrix(6, 6), np.eye(6))


def test_pooling_repeats_where_the_map_is_smaller_and_averages_where_it_is_larger():
    np.testing.assert_array_equal(pool_matrix(1, 6), np.ones((6, 1)))
    np.testing.assert_array_equal(pool_matrix(2, 6), [[1, 0]] * 3 + [[0, 1]] * 3)
    np.testing.assert_array_equal(pool_matrix(12, 6), np.kron(np.eye(6), [[0.5, 0.5]]))
    np.testing.assert_allclose(pool_matrix(7, 6) @ np.arange(7), [0.5, 1.5, 2.5, 3.5, 4.5, 5.5])


def test_validation_is_stratified_and_apart_from_training():
    labels = np.repeat(np.arange(10), [50, 150, 100, 100, 100, 100, 100, 100, 100, 100]).astype(np.uint8)
    training, validation = validation_split(3, labels, 100)
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(1000))
    np.testing.assert_array_equal(np.bincount(labels[validation]), [5, 15, *[10] * 8])
    assert not np.array_equal(validation, validation_split(4, labels, 100)[1])
