"""Round ticks that lie where they say."""

import pytest

from job.analysis.axis import percent_axis, points_axis


def test_ticks_of_shares_are_in_percent():
    axis = percent_axis("accuracy in %", [0.889, 0.952])
    assert axis.ticks == [(pytest.approx(0.90), "90"), (pytest.approx(0.92), "92"), (pytest.approx(0.94), "94")]
    assert axis.at(0.889) == pytest.approx(100 * 0.05 / 1.1)  # a margin of 5 % of the span on each side
    assert axis.at(0.5) == 0
    assert axis.at(1.0) == 100


def test_shares_end_at_0_and_100_percent():
    assert percent_axis("", [0.0, 1.0]).low == 0
    assert percent_axis("", [0.999, 1.0]).high == 1


def test_differences_have_signs_and_zero_among_them():
    axis = points_axis("difference in points", [0.011, 0.023])
    assert [text for _, text in axis.ticks] == ["0", "+1", "+2"]
    assert [text for _, text in points_axis("", [-0.0001, 0.0002]).ticks] == ["−0.01", "0", "+0.01", "+0.02"]


def test_an_axis_without_values_or_with_a_single_one_has_length():
    for axis in (percent_axis("", []), percent_axis("", [0.9]), points_axis("", [])):
        assert axis.high > axis.low
        assert len(axis.ticks) >= 2
