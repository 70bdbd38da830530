"""Outliers of a fleet: the rate of false alarms that is stated, what is found, and groups too small or too alike to tell."""

import numpy as np
import pytest

from job.fleet.outliers import FALSE_ALARMS, LEAST, Figure, comparisons, limit, robust_deviation, spread

SPEED = Figure(name="images/s", unit="images/s", bad="low", floor=0.005)
TEMPERATURE = Figure(name="temperature", unit="°C", bad="high", floor=1.0, ratio=False)
BOTH = Figure(name="power", unit="W", bad="both", floor=1e-6)


def named(values):
    return {f"gpu-{number}": float(value) for number, value in enumerate(values)}


def alarms(sizes: list[int], fleets: int, rng: np.random.Generator) -> float:
    """Share of faultless fleets, whose groups have these sizes and one two-sided figure, with any outlier."""
    tests, alarmed = comparisons([(BOTH, size) for size in sizes]), np.zeros(fleets, dtype=bool)
    for size in sizes:
        values = rng.normal(100.0, 1.0, (fleets, size))
        median = np.median(values, axis=1, keepdims=True)
        alone = robust_deviation(values[0], float(median[0, 0]))
        scale = alone / np.median(np.abs(values[0] - median[0, 0]))  # the same factor for each
        deviation = scale * np.median(np.abs(values - median), axis=1, keepdims=True)
        alarmed |= (np.abs(values - median) > limit(size, tests) * deviation).any(axis=1)
    return float(alarmed.mean())


@pytest.mark.parametrize("sizes", [[5], [8], [12, 8], [40], [200], [8] * 25], ids=str)
def test_false_alarms_are_as_rare_as_stated(sizes):
    """2,000 fleets: a rate of 1 % is above 1.6 % once in 200 tries."""
    assert alarms(sizes, 2_000, np.random.default_rng(7)) <= 0.016


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[5], [6], [7], [9], [16], [64], [1000], [1000, 8, 5], [8] * 125], ids=str)
def test_false_alarms_of_large_fleets(sizes):
    rate = alarms(sizes, 10_000, np.random.default_rng(11))
    assert rate <= FALSE_ALARMS + 0.003
    assert rate >= 0.001, "so careful that nothing would be found"


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 12, 100])
def test_the_spread_of_few_is_not_underestimated(size):
    values = np.random.default_rng(5).normal(0.0, 1.0, (4_000, size))
    mean = np.mean([robust_deviation(row, float(np.median(row))) for row in values])
    assert mean == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("size", [8, 100])
def test_a_straggler_is_found_whatever_the_others_do(size):
    rng = np.random.default_rng(3)
    values = rng.normal(1000.0, 5.0, size)
    values[3] = 700.0
    found = spread(SPEED, named(values), comparisons([(SPEED, size)]))
    assert found.outliers == {"gpu-3": 700.0}
    assert found.high is None, "fast is no fault"


def test_up_to_half_of_a_group_may_be_bad():
    values = [1000.0 + n for n in range(11)] + [500.0 + n for n in range(9)]
    assert len(spread(SPEED, named(values), 20).outliers) == 9


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_small_group_tells_nothing(size):
    found = spread(SPEED, named([1000.0] * (size - 1) + [1.0]), 100)
    assert (found.low, found.high, found.outliers) == (None, None, {})
    assert comparisons([(SPEED, size)]) == 0
    assert size < LEAST


def test_five_alike_and_one_half_as_fast():
    found = spread(SPEED, named([1000.0, 1001.0, 999.0, 1000.5, 400.0]), 5)
    assert found.outliers == {"gpu-4": 400.0}


def test_all_alike_but_one():
    """The MAD is 0: what is nearer than the floor allows is of no account, whatever is farther is an outlier."""
    found = spread(TEMPERATURE, named([60.0] * 50 + [61.0, 90.0]), comparisons([(TEMPERATURE, 52)]))
    assert found.outliers == {"gpu-51": 90.0}
    assert spread(TEMPERATURE, named([60.0] * 52), 52).outliers == {}
    cold = spread(TEMPERATURE, named([60.0] * 50 + [20.0, 60.0]), 52)
    assert cold.outliers == {}, "cold is no fault"


def test_no_spread():
    assert spread(BOTH, named([0.0] * 10), 20).outliers == {}
    assert list(spread(BOTH, named([100.0] * 9 + [0.0]), 20).outliers) == ["gpu-9"]


def test_ratios_are_compared_so_that_a_wide_limit_is_never_below_zero():
    found = spread(SPEED, named([1000.0, 1100.0, 900.0, 1050.0, 950.0, 3.0]), 6)
    assert found.low is not None
    assert 0 < found.low < 900


def test_more_comparisons_make_a_wider_limit():
    assert limit(8, 10) < limit(8, 1000)
    assert limit(8, 100) > limit(80, 100) > limit(8000, 100) > 3
