"""Against scipy, published examples and brute force."""

import numpy as np
import pytest
from scipy import stats

from job.analysis.statistics import bootstrap_difference, calibration_error, mcnemar, over_seeds, paired, per_class, seeds_needed
from job.core.metrics import wilson


def test_mcnemar_as_published():
    # M. W. Fagerland, S. Lydersen, P. Laake, BMC Medical Research Methodology 13 (2013), article 91, table 1: 1 and 7 discordant pairs,
    # exact conditional p = 0.0703
    assert round(mcnemar(1, 7), 4) == 0.0703
    # A. Agresti, "Categorical data analysis" (2002), table 10.1: 86 and 150 discordant pairs, z = -4.17, so p is about 3e-5
    assert mcnemar(86, 150) == pytest.approx(stats.binomtest(86, 236).pvalue, abs=1e-15)
    assert mcnemar(86, 150) == pytest.approx(2 * stats.norm.sf(4.17), rel=0.25)
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


def right(*counts: int, images: int = 1000, seed: int = 0) -> np.ndarray:
    """(len(counts), images): which images are right, `counts` of them in each row."""
    order = np.random.default_rng(seed)
    return np.array([order.permutation(images) < count for count in counts])


def test_seeds_as_welch():
    first, second = right(901, 905, 899), right(911, 915, 912, 909, seed=1)
    found = over_seeds(first, second)
    reference = stats.ttest_ind(second.mean(1), first.mean(1), equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert found.difference == pytest.approx(0.91175 - 2.705 / 3)
    assert (found.seeds_low, found.seeds_high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.deviation == pytest.approx(np.sqrt((2 * np.var(first.mean(1), ddof=1) + 3 * np.var(second.mean(1), ddof=1)) / 5))
    gains = second.mean(0) - first.mean(0)
    images = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (found.images_low, found.images_high) == pytest.approx((images.low, images.high), abs=1e-12)
    assert found.low < min(found.seeds_low, found.images_low)
    assert found.high > max(found.seeds_high, found.images_high)
    assert (found.low > 0) == (found.p < 0.05)


def test_seeds_without_any_spread():
    same = right(900)[[0, 0]]
    assert (over_seeds(same, same).p, over_seeds(same, same).difference) == (1.0, 0.0)


def test_the_interval_over_seeds_and_images_holds_the_truth():
    """Both sides of equal merit, seeds that spread by 0.4 points, images by chance: about 95 of 100 intervals hold 0, not many fewer."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(300):
        hard = rng.random(2000)  # shared by both sides
        sides = [np.array([hard < p for p in rng.normal(0.9, 0.004, 3)]) ^ (rng.random((3, 2000)) < 0.03) for _ in range(2)]
        found = over_seeds(*sides)
        held += found.low <= 0 <= found.high
    assert held >= 280


def test_seeds_needed_as_published():
    # J. Cohen, "Statistical power analysis for the behavioral sciences" (1988), table 2.4.1: d = 0.5 and 0.8 need 64 and 26 on each side at
    # power 0.8, and d = 0.2 needs 393 by his approximation, 394 exactly
    assert [seeds_needed(1.0, d) for d in (0.5, 0.8, 0.2)] == [64, 26, 394]
    assert [seeds_needed(1.0, d) for d in (1.2, 1.4)] == [12, 10]
    assert seeds_needed(0.0, 0.01) == 2
    assert seeds_needed(0.001, 0.1) == 2


def test_seeds_needed_gives_the_power_it_promises():
    n = seeds_needed(0.004, 0.003)
    rng = np.random.default_rng(0)
    seen = [stats.ttest_ind(rng.normal(0, 0.004, n), rng.normal(0.003, 0.004, n)).pvalue < 0.05 for _ in range(2000)]
    assert 0.77 < np.mean(seen) < 0.84
