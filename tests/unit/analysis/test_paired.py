"""The paired test and its interval: published examples, exhaustive agreement, exact coverage."""

import numpy as np
import pytest
from scipy import stats

from job.analysis.paired import detectable_difference, equivalence, mcnemar, paired, score, score_interval
from job.analysis.statistics import LEVEL

BOUND = stats.norm.isf(LEVEL / 2)


def test_mcnemar_as_published():
    # A. Agresti, "Categorical data analysis" (2002), table 10.1: 86 and 150 discordant pairs, z = -4.17
    assert stats.norm.isf(mcnemar(86, 150) / 2) == pytest.approx(4.17, abs=0.005)
    assert mcnemar(1, 7) == pytest.approx(2 * stats.norm.sf(6 / np.sqrt(8)), rel=1e-12)
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(
    ("lost", "gained", "images", "level", "low", "high"),
    [
        # M. W. Fagerland, S. Lydersen, P. Laake, Statistics in Medicine 33 (2014), 2850-2875: airway hyper-responsiveness, and
        # complete response before and after consolidation
        (7, 1, 21, 0.05, -0.517, -0.026),
        (16, 6, 161, 0.05, -0.124, -0.005),
        # R. G. Newcombe, Statistics in Medicine 17 (1998), 2635-2650, table III: no discordant pair of 54
        (0, 0, 54, 0.05, -0.0664, 0.0664),
        # R's PropCIs::scoreci.mp(25, 28, 618, 0.90)
        (25, 28, 618, 0.10, -0.0148, 0.0247),
    ],
)
def test_the_score_interval_as_published(lost, gained, images, level, low, high):
    digits = 3 if abs(low * 1000) % 1 == 0 else 4
    assert [round(float(bound), digits) for bound in score_interval(lost, gained, images, level)] == [low, high]


def test_the_score_is_tangos_restricted_maximum_likelihood():
    """Against a maximisation of the likelihood over q, by brute force."""
    lost, gained, images, difference = 12, 31, 400, 0.02
    q = np.linspace(1e-6, (1 - difference) / 2 - 1e-6, 400_001)
    likelihood = lost * np.log(q) + gained * np.log(q + difference) + (images - lost - gained) * np.log(1 - 2 * q - difference)
    best = q[likelihood.argmax()]
    expected = (gained - lost - images * difference) / np.sqrt(images * (2 * best + difference - difference**2))
    assert score(lost, gained, images, difference) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("images", [71, 355, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_interval_excludes_zero_beside_a_p_above_the_level_or_the_reverse(images):
    """Every split of 0 to 6 % discordant pairs."""
    most = int(0.06 * images)
    lost, gained = (grid[np.add.outer(np.arange(most + 1), np.arange(most + 1)) <= most] for grid in np.indices((most + 1, most + 1)))
    low, high = score_interval(lost, gained, images)
    seen = (low > 0) | (high < 0)
    assert seen.any()
    assert not seen.all()
    np.testing.assert_array_equal(seen, mcnemar(lost, gained) < LEVEL)
    assert (low < high).all()
    assert ((low <= (gained - lost) / images) & ((gained - lost) / images <= high)).all()


def coverage(images: int, discordant: float, share: float) -> float:
    """Exact: over all numbers of discordant pairs and all their splits.  `share`: the difference as a share of them."""
    total, difference = 0.0, discordant * share
    for pairs in range(int(images * discordant + 9 * np.sqrt(images * discordant) + 20)):
        gained = np.arange(pairs + 1)
        low, high = score_interval(pairs - gained, gained, images)
        held = (low <= difference) & (difference <= high)
        total += stats.binom.pmf(pairs, images, discordant) * float(stats.binom.pmf(gained, pairs, (1 + share) / 2)[held].sum())
    return total


def test_the_interval_holds_the_truth_as_often_as_it_says():
    assert 0.93 < coverage(355, 0.03, 0.25) < 0.97
    assert coverage(71, 0.02, 0.0) > 0.97  # 1.4 discordant pairs on average: nothing so coarse can hold it less often


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize(
    ("images", "discordant"), [(71, 0.01), (71, 0.03), (71, 0.06), (355, 0.01), (355, 0.02), (355, 0.06), (10_000, 0.001), (10_000, 0.005)]
)
def test_coverage_of_the_interval(images, discordant, share):
    """93 to 97 % from five expected discordant pairs on; with fewer it is cautious, never bold."""
    held = coverage(images, discordant, share)
    assert held > 0.935  # so equal networks are called different in at most 6.5 %
    assert held < 0.97 or images * discordant < 5


@pytest.mark.slow
@pytest.mark.parametrize(("images", "wrong", "own"), [(71, 0.1, 0.05), (355, 0.01, 0.01), (355, 0.1, 0.03), (10_000, 0.25, 0.05)])
def test_false_positives_of_two_networks(images, wrong, own):
    """One seed on each side: of two networks that are equally good on all images there are, at most 6.5 % are called different.

    Some images are hard for both networks; besides, each takes a share `own` of its own otherwise.
    """
    rng, seen, runs = np.random.default_rng(11), 0, 8000
    for _ in range(runs):
        hard = rng.random(images, dtype=np.float32) < wrong
        first, second = (hard ^ (rng.random(images, dtype=np.float32) < own) for _ in range(2))
        seen += mcnemar(int((first & ~second).sum()), int((~first & second).sum())) < LEVEL
    assert seen / runs <= 0.065


def test_paired_counts():
    labels = np.array([0, 1, 2, 3, 4, 5])
    result = paired(np.array([0, 1, 2, 0, 0, 0]), np.array([0, 0, 0, 3, 0, 1]), labels, names=("old", "new"))
    assert (result.only_first, result.only_second) == (2, 1)
    assert result.direction == "new minus old"
    assert result.difference == pytest.approx(-1 / 6)
    assert result.agreement == pytest.approx(2 / 6)
    assert result.equivalence is None


def test_equivalence_is_the_90_per_cent_interval_within_the_margin():
    for margin in np.linspace(0.002, 0.03, 57):
        found = equivalence(30, 45, 2000, float(margin))
        assert found.equal == (-margin < found.low and found.high < margin) == (found.p < LEVEL)
    low, high = score_interval(30, 45, 2000, 0.1)
    assert (found.low, found.high) == (float(low), float(high))
    assert equivalence(0, 0, 10_000, 0.005).equal
    assert not equivalence(0, 0, 100, 0.005).equal  # too few images to tell


def test_what_could_have_been_seen_as_published_and_by_trial():
    # R. J. Connor, Biometrics 43 (1987): 10 points with 20 % discordant pairs need 155 pairs, a little fewer than without δ²
    assert detectable_difference(31, 155) == pytest.approx(0.10, abs=0.002)
    images, discordant = 10_000, 300
    least = detectable_difference(discordant, images)
    rng = np.random.default_rng(1)
    pairs = rng.binomial(images, 0.03, 4000)
    gained = rng.binomial(pairs, (1 + least / 0.03) / 2)
    assert 0.78 < (mcnemar(pairs - gained, gained) < LEVEL).mean() < 0.84
    assert detectable_difference(0, 10) <= 1.0
