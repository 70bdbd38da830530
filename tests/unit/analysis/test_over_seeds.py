"""The test over seeds and images: known cases, false positives and power by simulation, plans that keep their promise."""

import numpy as np
import pytest
from scipy import stats

from job.analysis.crossed import Error
from job.analysis.over_seeds import difference_of, mean_interval, over_seeds, spread_of
from job.analysis.power import Design, needed_seeds, smallest
from job.analysis.statistics import LEVEL


def right(*counts: int, images: int = 1000, seed: int = 0) -> np.ndarray:
    """(len(counts), images): which images are right, `counts` of them in each row."""
    order = np.random.default_rng(seed)
    return np.array([order.permutation(images) < count for count in counts])


def test_the_part_of_the_seeds_is_welchs_test():
    first, second = right(901, 905, 899), right(911, 915, 912, 909, seed=1)
    found = over_seeds(first, second, names=("old", "new"))
    reference = stats.ttest_ind(second.mean(1), first.mean(1), equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert found.direction == "new minus old"
    assert found.difference == pytest.approx(0.91175 - 2.705 / 3)
    assert (found.seeds_low, found.seeds_high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.deviations == pytest.approx((np.std(first.mean(1), ddof=1), np.std(second.mean(1), ddof=1)))
    assert not found.borrowed
    assert found.low < found.seeds_low
    assert found.seeds_high < found.high


def test_one_seed_on_a_side_is_the_test_of_crawford_and_howell():
    """t = (x - mean) / (s √(1 + 1 / n)) with n - 1 degrees of freedom; the images add nothing where there are very many."""
    alone, several = right(920, images=1000), right(901, 905, 899, 903, seed=1)
    found, norms = over_seeds(alone, several), several.mean(1)
    reach = stats.t.isf(0.025, 3) * np.std(norms, ddof=1) * np.sqrt(1 + 1 / 4)
    assert found.borrowed
    assert (found.seeds_low, found.seeds_high) == pytest.approx((found.difference - reach, found.difference + reach), abs=1e-12)
    assert over_seeds(several, alone).p == pytest.approx(found.p)
    lent = spread_of(several, right(880, 930, seed=2))
    assert lent is not None
    assert lent.freedom == 4
    assert over_seeds(alone, right(905, seed=3), lent=lent).borrowed  # one seed on both sides, the spread from a third


def test_no_spread_at_all_is_no_certainty():
    same = right(900)[[0, 0]]
    found = over_seeds(same, same, margin=0.01)
    assert (found.difference, found.p) == (0.0, pytest.approx(1.0))
    assert found.high == -found.low == pytest.approx(1.962 * 1.96 / 1000, rel=1e-3)
    assert found.equivalence is not None
    assert found.equivalence.equal


def test_p_interval_and_equivalence_agree():
    error = Error(seeds=1e-6, freedom=2.5, images=2e-6, test_images=500)
    for difference in np.linspace(-0.02, 0.02, 81):
        low, high = error.interval(float(difference))
        assert (low > 0 or high < 0) == (error.p(float(difference)) < LEVEL)
        equal = error.equivalence(float(difference), 0.01)
        assert equal.equal == (equal.low > -0.01 and equal.high < 0.01) == (equal.p < LEVEL)


def drawn(rng: np.random.Generator, seeds: int, accuracy: float, deviation: float, hard: np.ndarray) -> np.ndarray:
    """Networks whose true accuracy spreads between seeds, on images of which some are harder for all."""
    order = hard < rng.normal(accuracy, deviation, seeds)[:, None]
    return np.asarray(order ^ (rng.random((seeds, len(hard)), dtype=np.float32) < 0.05))


def false_positives(first: int, second: int, *, images: int, deviation: float, runs: int) -> float:
    """Share of comparisons of two equally good sides in which a difference is seen."""
    rng, seen = np.random.default_rng(7), 0
    for _ in range(runs):
        hard = rng.random(images, dtype=np.float32)
        sides = [drawn(rng, count, 0.9, deviation, hard) for count in (first, second)]
        difference, error, _ = difference_of(*sides)
        seen += abs(difference) > error.reach()
    return seen / runs


def test_false_positives_of_an_unequal_design():
    assert false_positives(1, 3, images=1000, deviation=0.01, runs=500) < 0.075


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.0, 0.003, 0.01])
@pytest.mark.parametrize("design", [(1, 3), (2, 2), (3, 3)])
def test_false_positives_over_seeds(design, deviation):
    """Seeds that spread by 1 point, and by less, on 10,000 images: at most 6.5 % of equal sides are called different."""
    assert false_positives(*design, images=10_000, deviation=deviation, runs=4000) <= 0.065


def test_the_power_is_that_of_the_test():
    """Draw sides as far apart as the design is said to show: 80 % are seen."""
    rng, seen, images = np.random.default_rng(3), 0, 10_000
    error = Design(variances=(4e-6, 9e-6), freedom=8, images=4e-7, test_images=images).error(5)
    least = error.detectable()
    for _ in range(4000):
        means = [rng.normal(0, sd, 5) for sd in (2e-3, 3e-3)]
        difference = means[1].mean() - means[0].mean() + rng.normal(least, np.sqrt(4e-7))
        square, freedom = welch_of(means)
        seen += abs(difference) > Error(seeds=square, freedom=freedom, images=4e-7, test_images=images).reach()
    assert error.power(least) == pytest.approx(0.8, abs=1e-4)
    assert 0.77 < seen / 4000 < 0.83


def welch_of(samples: list[np.ndarray]) -> tuple[float, float]:
    parts = [np.var(sample, ddof=1) / len(sample) for sample in samples]
    return sum(parts), sum(parts) ** 2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True))


def test_seeds_needed_as_published():
    # J. Cohen, "Statistical power analysis for the behavioral sciences" (1988), table 2.4.1: effects of 0.5 and 0.8 deviations need 64 and
    # 26 on each side at power 0.8; exactly 394 for 0.2.  The images do not count here.
    design = Design(variances=(1e-4, 1e-4), freedom=100, images=1e-16, test_images=10_000_000)
    assert [smallest(design, d * 0.01) for d in (0.5, 0.8, 0.2)] == [64, 26, 394]


def test_seeds_needed_counts_the_images_and_the_doubt_about_the_spread():
    known = Design(variances=(4e-6, 4e-6), freedom=400, images=1e-7, test_images=10_000)
    unknown = Design(variances=(4e-6, 4e-6), freedom=2, images=1e-7, test_images=10_000)
    half = {row.difference: row for row in needed_seeds(unknown)}[0.005]
    assert half.seeds == smallest(known, 0.005) == 4
    assert half.cautious is not None
    assert half.cautious > 2 * half.seeds  # the spread of two seeds a side may well be twice as wide
    coarse = Design(variances=(4e-6, 4e-6), freedom=4, images=4e-6, test_images=1000)  # 0.2 points from the images alone
    quarter, *_, two = needed_seeds(coarse)
    assert (quarter.seeds, quarter.cautious) == (None, None)
    assert quarter.images is not None
    assert 5000 < quarter.images < 5100  # 1000 · 4e-6 · (2.80 / 0.0025)², and a little for the seeds
    assert two.images is None


def test_the_interval_of_a_sides_mean():
    side = right(900, 905, 898)
    low, high = mean_interval(side)
    assert low < side.mean() < high
    assert high - low > 2 * stats.t.isf(0.025, 2) * np.std(side.mean(1), ddof=1) / np.sqrt(3)
    assert mean_interval(np.ones((3, 50), dtype=bool)) == (pytest.approx(1 - 2.01 * 1.96 / 50, abs=1e-3), 1.0)
