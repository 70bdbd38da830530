"""The place of a process among the workers of a run, as whoever started it says in environment variables.

Four ways, of which the first that applies counts: `--coordinator` with the completion index of a Job (a JobSet), TF_CONFIG (TensorFlow
only), and RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT (torchrun, a Kubeflow TrainJob, and `alexnet train --workers` itself).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from job.core.exits import Exit, JobError

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
INDEX = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True, kw_only=True)
class Place:
    """The default: alone."""

    rank: int = 0
    """0 … workers - 1; worker 0 writes what the run leaves"""
    workers: int = 1
    local_rank: int = 0
    """among those on this machine: the number of its GPU"""
    local_workers: int = 1
    """on this machine, which share its CPUs"""
    addresses: tuple[str, ...] = ()
    """HOST:PORT of each worker by rank, of worker 0 at least"""

    @property
    def alone(self) -> bool:
        return self.workers == 1

    @property
    def leads(self) -> bool:
        return self.rank == 0


ALONE = Place()


def given_place(variables: Mapping[str, str], *, engine: str, coordinator: str | None, workers: int | None) -> Place | None:
    """None: the process was given none.  Raises JobError: 2 where `workers` is another number, 78 where the variables make no sense."""
    if coordinator:
        return _in_job(variables, coordinator, workers or 1)
    if engine == "tensorflow" and "TF_CONFIG" in variables:
        found, source = _of_tf_config(variables), "TF_CONFIG"
    elif all(variables.get(name) for name in TORCHRUN):
        found, source = _of_torchrun(variables), "WORLD_SIZE"
    else:
        return None
    if workers not in (None, found.workers):
        raise JobError(Exit.USAGE, f"--workers {workers}: {source} says that there are {found.workers}. Leave --workers out.")
    return None if found.alone else found


def _in_job(variables: Mapping[str, str], coordinator: str, workers: int) -> Place:
    if INDEX not in variables:
        raise JobError(
            Exit.CONFIGURATION,
            f"--coordinator {coordinator}: {INDEX} is missing, which tells each worker its rank. Run the workers as an Indexed Job or a "
            "JobSet, or leave --coordinator out.",
        )
    place = Place(rank=_number(variables, INDEX), workers=workers, addresses=_neighbours(coordinator, workers))
    return _checked(place, f"{INDEX} = {place.rank}, --workers {workers}")


def _of_torchrun(variables: Mapping[str, str]) -> Place:
    rank, workers = _number(variables, "RANK"), _number(variables, "WORLD_SIZE")
    address = f"{variables['MASTER_ADDR']}:{variables['MASTER_PORT']}"
    place = Place(
        rank=rank,
        workers=workers,
        local_rank=_number(variables, "LOCAL_RANK", 0),
        local_workers=_number(variables, "LOCAL_WORLD_SIZE", 1),
        addresses=_neighbours(address, workers),
    )
    return _checked(place, f"RANK = {rank}, WORLD_SIZE = {workers}")


def _of_tf_config(variables: Mapping[str, str]) -> Place:
    text = variables["TF_CONFIG"]
    try:
        config = json.loads(text)
        addresses, task = tuple(map(str, config["cluster"]["worker"])), config["task"]
        rank = int(task["index"])
        if task["type"] != "worker":
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise JobError(
            Exit.CONFIGURATION,
            f'TF_CONFIG = {text[:300]}: expected {{"cluster": {{"worker": ["HOST:PORT", …]}}, '
            '"task": {"type": "worker", "index": RANK}}.',
        ) from None
    place = Place(
        rank=rank,
        workers=len(addresses),
        local_rank=_number(variables, "LOCAL_RANK", 0),
        local_workers=_number(variables, "LOCAL_WORLD_SIZE", 1),
        addresses=addresses,
    )
    return _checked(place, f"TF_CONFIG has task {rank} of {len(addresses)} workers")


def _neighbours(coordinator: str, workers: int) -> tuple[str, ...]:
    """Pods of a JobSet are named by their index: NAME-0-0.NAME, NAME-0-1.NAME and so on.  Where the name has no index, only worker 0's."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise JobError(Exit.USAGE, f"--coordinator {coordinator}: expected HOST:PORT, the name of worker 0 and a free port there.")
    first, dot, rest = host.partition(".")
    if not first.endswith("-0"):
        return (coordinator,)
    return tuple(f"{re.sub('0$', str(rank), first)}{dot}{rest}:{port}" for rank in range(workers))


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name) or str(default)
    if not text.isdigit():
        raise JobError(Exit.CONFIGURATION, f"{name} = {text!r}: expected a number from 0, as torchrun or Kubernetes sets it.")
    return int(text)


def _checked(place: Place, said: str) -> Place:
    if not place.rank < place.workers:
        raise JobError(Exit.CONFIGURATION, f"{said}: expected a rank below the number of workers.")
    return place
