"""Who examines which GPU, and what the numbers may depend on: the parts of a verdict that nothing measures."""

import os
import secrets
from collections.abc import Mapping

from job.bench.machine import describe
from job.core.acceptance_records import Started
from job.core.exits import Exit, JobError
from job.core.identity_records import ARITHMETIC, Environment
from job.core.recipe import Recipe
from job.core.records import FORMAT, RecipeValue
from job.core.resource_records import GpuIdentity
from job.data.sources import digits
from job.runs.run import RUN_ID
from job.storage.files import encoded, without_secrets
from job.storage.store import Store
from job.training.identity import code, place


def started(engine: str, gpu: GpuIdentity, now: float, variables: Mapping[str, str] = os.environ) -> Started:
    return {
        **code(variables),
        **place("cpu", variables),
        "gpu_uuid": gpu["uuid"] or None,
        "format": FORMAT,
        "engine": engine,
        "gpu": gpu,
        "index": number(variables.get("JOB_COMPLETION_INDEX")),
        "of": number(variables.get("ALEXNET_COMPLETIONS")),
        "started": now,
    }


def checked(name: str) -> str:
    """The name itself.  Raises JobError (2) where it cannot be a folder's."""
    if RUN_ID.fullmatch(name):
        return name
    raise JobError(
        Exit.USAGE,
        f"{without_secrets(name)!r} cannot name a folder. Expected 1 to 100 letters, digits, '.', '_' or '-'; give one with --run-id.",
    )


def claim(store: Store, name: str, record: Started) -> str:
    """The folder of a new attempt, named as a run's are."""
    numbers = [int(folder[:4]) for folder in store.folders(f"{name}/") if folder[:4].isdigit()]
    folder = f"{name}/{max(numbers, default=0) + 1:04d}-{secrets.token_hex(3)}"
    store.put(f"{folder}/started.json", encoded(record))
    return folder


def group(environment: Environment, record: Started, threads: int) -> dict[str, str]:
    """All that the bits of a result may depend on but the work itself; of a CPU its kind and the number of threads as well."""
    found = {key: str(value) for key, value in environment.items() if value is not None}
    found |= {"gpu": record["gpu"]["name"], "source": record["source"], "arithmetic": str(ARITHMETIC)}
    if "driver" in record["gpu"]:
        found["driver"] = record["gpu"]["driver"]
    if environment["device"] == "cpu":
        found |= {"threads": str(threads), "cpu_flags": " ".join(describe()["cpu_flags"])}
    return found


def work(recipe: Recipe, seed: int, steps: int) -> dict[str, RecipeValue]:
    """What is computed."""
    given = {key: value for key, value in recipe.as_dict().items() if key not in ("name", "precision", "epochs", "validation")}
    return {**given, "seed": seed, "steps": steps, "data": digits().fingerprint}


def number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def short(uuid: str) -> str:
    """Of a GPU among those of a node."""
    return uuid.removeprefix("GPU-").partition("-")[0] or "cpu"
