"""Against published examples and by hand."""

import numpy as np
import pytest
from scipy import stats

from job.analysis.statistics import calibration_error, holm, per_class
from job.core.metrics import wilson


def test_wilson_as_published():
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263 → 0.2553 to 0.3662; 15/148 → 0.0624 to 0.1605
    for hits, total, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]:
        assert tuple(round(x, 4) for x in wilson(hits, total)) == (low, high)
        interval = stats.binomtest(hits, total).proportion_ci(0.95, "wilson")
        assert wilson(hits, total) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_holm_stops_at_the_first_p_that_is_too_great():
    assert holm({"a | b": 0.02, "a | c": 0.03, "b | c": 0.04}) == []
    assert holm({"a | b": 0.024, "a | c": 0.01, "b | c": 0.06}) == ["a | c", "a | b"]


def test_calibration_error():
    sure = np.eye(2)[[0] * 100] * 100.0  # says class 0 with certainty
    labels = np.array([0] * 80 + [1] * 20)
    assert calibration_error(sure, labels) == pytest.approx(0.2, abs=1e-9)
    fair = np.tile(np.log([0.8, 0.2]), (100, 1))
    assert calibration_error(fair, labels) == pytest.approx(0.0, abs=1e-9)


def test_per_class():
    assert per_class(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == [1.0, 0.5, None]
