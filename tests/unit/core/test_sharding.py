"""The tree of sums: the same order, however many workers add."""

import numpy as np
import pytest

from job.core.exits import JobError
from job.core.sampling import plan
from job.core.sharding import check_power_of_two, check_shards, pairs, shards_of, tree_sum
from tests.support.trainer import RECIPE


def added(workers: int, shards: int) -> set[str]:
    """The sum, written down, that each worker has in the end."""
    add = "({}+{})".format
    sums = [tree_sum(str, add, shards_of(rank, workers, shards)) for rank in range(workers)]
    for level in pairs(workers):
        for a, b in level:
            sums[a] = sums[b] = add(sums[a], sums[b])
    return set(sums)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_the_order_of_the_sum_is_that_of_one_worker(workers):
    assert added(workers, 8) == {"(((0+1)+(2+3))+((4+5)+(6+7)))"}


def test_shards_are_the_batch_cut_by_position():
    recipe = RECIPE.with_values({"batch_size": 8})
    whole = plan(recipe, recipe.architecture(10), 5, np.arange(64), epoch=0, step=2)
    parts = [whole.shard(number, 4) for number in range(4)]
    for field in ("indices", "rows", "columns", "dropout"):
        joined = np.concatenate([getattr(part, field) for part in parts], axis=-1)
        np.testing.assert_array_equal(joined, getattr(whole, field))


@pytest.mark.parametrize(
    ("batch_size", "shards", "workers", "named"),
    [(36, 8, 1, "--batch-size 40"), (64, 6, 1, "such as 4 or 8"), (64, 2, 4, "--workers 2"), (64, 3, 1, "such as 2 or 4")],
)
def test_what_cannot_be_shared_is_refused_with_the_next_possible_value(batch_size, shards, workers, named):
    with pytest.raises(JobError, match=named) as refused:
        check_shards(batch_size, shards, workers)
    assert refused.value.code == 2


def test_powers_of_two_pass():
    for number in (1, 2, 4, 8):
        check_power_of_two("--workers", number)
        check_shards(64, 8, number)
