"""Against scipy, published examples and brute force."""

import numpy as np
import pytest
from scipy import stats

from job.analysis.statistics import bootstrap_difference, calibration_error, mcnemar, over_seeds, paired, per_class, seeds_needed
from job.core.metrics import wilson


def test_mcnemar_as_published():
    # Agresti, "Categorical Data Analysis" (2002), table 10.1: approval ratings, 86 and 150 discordant; z² = 17.36, p about 3e-5
    assert mcnemar(86, 150) == pytest.approx(stats.binomtest(86, 236).pvalue, abs=1e-15)
    assert 2e-5 < mcnemar(86, 150) < 5e-5
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 1024)


def test_wilson_as_published():
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263 → 0.2553 to 0.3662; 15/148 → 0.0624 to 0.1605
    for hits, total, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]:
        assert tuple(round(x, 4) for x in wilson(hits, total)) == (low, high)
        interval = stats.binomtest(hits, total).proportion_ci(0.95, "wilson")
        assert wilson(hits, total) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_the_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(3)
    first = rng.random(2000) < 0.9
    second = np.where(rng.random(2000) < 0.95, first, ~first)
    low, high = bootstrap_difference(first, second)
    reference = stats.bootstrap(
        (second.astype(float) - first.astype(float),), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-3)


def test_paired_counts():
    labels = np.array([0, 1, 2, 3, 4, 5])
    result = paired(np.array([0, 1, 2, 0, 0, 0]), np.array([0, 0, 0, 3, 0, 1]), labels)
    assert (result.only_first, result.only_second) == (2, 1)
    assert result.difference == pytest.approx(-1 / 6)
    assert result.agreement == pytest.approx(2 / 6)


def test_calibration_error():
    sure = np.eye(2)[[0] * 100] * 100.0  # says class 0 with certainty
    labels = np.array([0] * 80 + [1] * 20)
    assert calibration_error(sure, labels) == pytest.approx(0.2, abs=1e-9)
    fair = np.tile(np.log([0.8, 0.2]), (100, 1))
    assert calibration_error(fair, labels) == pytest.approx(0.0, abs=1e-9)


def test_per_class():
    assert per_class(np.array([0, 0, 1]), np.array([0, 1, 1]), 3) == [1.0, 0.5, None]


def test_seeds_as_welch():
    first, second = [0.901, 0.905, 0.899], [0.911, 0.915, 0.912, 0.909]
    found = over_seeds(first, second)
    reference = stats.ttest_ind(second, first, equal_var=False)
    assert found.p == reference.pvalue
    assert found.difference == pytest.approx(np.mean(second) - np.mean(first))
    assert found.low < found.difference < found.high
    same = over_seeds([0.9, 0.9], [0.9, 0.9])
    assert (same.p, same.difference) == (1.0, 0.0)


def test_seeds_needed_gives_the_power_it_promises():
    n = seeds_needed(0.004, 0.003)
    rng = np.random.default_rng(0)
    seen = [stats.ttest_ind(rng.normal(0, 0.004, n), rng.normal(0.003, 0.004, n)).pvalue < 0.05 for _ in range(2000)]
    assert 0.75 < np.mean(seen) < 0.88
    assert seeds_needed(0.0, 0.01) == 2
