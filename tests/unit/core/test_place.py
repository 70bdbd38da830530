"""Which worker a process is, by what torchrun, a Job or a TF_CONFIG tells it."""

import json

import pytest

from job.core.exits import JobError
from job.core.place import given_place

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "node-7", "MASTER_PORT": "29500", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TF_CONFIG = {"TF_CONFIG": json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}})}
JOBSET = "alexnet-workers-0-0.alexnet:2222"


def place(variables, *, engine="torch", coordinator=None, workers=None):
    return given_place(variables, engine=engine, coordinator=coordinator, workers=workers)


def test_torchrun():
    found = place(TORCHRUN)
    assert (found.rank, found.workers, found.local_rank, found.local_workers) == (3, 4, 1, 2)
    assert found.addresses == ("node-7:29500",)
    assert not found.leads


def test_tf_config_is_for_tensorflow():
    found = place(TF_CONFIG, engine="tensorflow")
    assert (found.rank, found.workers, found.addresses) == (1, 2, ("a:1", "b:1"))
    assert place(TF_CONFIG) is None


def test_a_pod_of_a_jobset():
    found = place({"JOB_COMPLETION_INDEX": "1"}, coordinator=JOBSET, workers=2)
    assert (found.rank, found.workers) == (1, 2)
    assert found.addresses == ("alexnet-workers-0-0.alexnet:2222", "alexnet-workers-0-1.alexnet:2222")


@pytest.mark.parametrize("variables", [{}, {"JOB_COMPLETION_INDEX": "3"}, {"RANK": "1"}, {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}])
def test_no_place(variables):
    """An Indexed Job whose index is a seed is one of them."""
    assert place(variables) is None


@pytest.mark.parametrize(
    ("variables", "how", "code", "named"),
    [
        (TORCHRUN, {"workers": 2}, 2, "Leave --workers out"),
        ({}, {"coordinator": JOBSET, "workers": 2}, 78, "JOB_COMPLETION_INDEX is missing"),
        ({"JOB_COMPLETION_INDEX": "2"}, {"coordinator": JOBSET, "workers": 2}, 78, "below the number of workers"),
        ({"JOB_COMPLETION_INDEX": "0"}, {"coordinator": "somewhere", "workers": 2}, 2, "HOST:PORT"),
        ({**TORCHRUN, "RANK": "one"}, {}, 78, "RANK = 'one'"),
        ({"TF_CONFIG": "{}"}, {"engine": "tensorflow"}, 78, 'expected {"cluster"'),
    ],
)
def test_places_that_make_no_sense(variables, how, code, named):
    with pytest.raises(JobError, match=named) as refused:
        place(variables, **how)
    assert refused.value.code == code
