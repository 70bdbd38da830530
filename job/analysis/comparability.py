"""Everything in which runs differ, and what of it makes a comparison unfair.

A difference is unfair unless HARMLESS lists it: engine, library versions and device are what is compared, and seeds are repetitions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from job.core.records import RecipeValue
from job.runs.results import Results
from job.storage.files import sha256_of

Library = Literal["torch", "tensorflow", "keras", "cuda", "cudnn", "numpy"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
HARMLESS = {
    "seed": "a repetition",
    "engine": "what is compared",
    "device": "stated: rounding and speed only",
    "library versions": "stated",
    "threads": "stated: rounding only",
    "recipe name": "a name",
    "recipe: truncated_test": "an extra figure only",
}
UNFAIR = {
    "data fingerprint": "other images or labels",
    "training images": "more images teach more",
    "test images": "not the same test",
    "test labels": "not the same test",
    "epochs done": "longer training",
    "parameters": "another network",
}
IDLE = {
    "momentum": ("optimizer", ("adam", "adam-keras")),
    "nesterov": ("optimizer", ("adam", "adam-keras")),
    "beta1": ("optimizer", ("sgd",)),
    "beta2": ("optimizer", ("sgd",)),
    "epsilon": ("optimizer", ("sgd",)),
    "pretrained_rate": ("pretrained", (False,)),
    "dropout_position": ("dropout", (0.0,)),
}
"""recipe field → the field and its values under which it has no effect"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row of the comparability table."""

    what: str
    values: list[str]
    """one for each run"""
    fair: bool
    why: str


def find_differences(runs: Sequence[Results]) -> list[Difference]:
    """Everything in which the runs differ, the unfair rows first."""
    table = [described(run) for run in runs]
    rows = []
    for what in dict.fromkeys(key for row in table for key in row):
        values = [str(row.get(what, "—")) for row in table]
        if len(set(values)) > 1:
            idle = all(what.removeprefix("recipe: ") in idle_fields(run.record["recipe"]) for run in runs)
            why = "without effect in these recipes" if idle else HARMLESS.get(what, UNFAIR.get(what, "changes what is learnt"))
            rows.append(Difference(what=what, values=values, fair=idle or what in HARMLESS, why=why))
    return sorted(rows, key=lambda row: row.fair)


def described(run: Results) -> dict[str, object]:
    """What must be equal for a fair comparison, and what is stated beside it."""
    summary, record = run.summary, run.record
    recipe = {f"recipe: {key}": value for key, value in record["recipe"].items() if key != "name"}
    return {
        "data fingerprint": record["data"]["fingerprint"][:12],
        "training images": record["data"]["train_images"],
        "test images": len(run.labels),
        "test labels": sha256_of(run.labels.tobytes())[:12],
        "epochs done": summary["epochs"],
        "parameters": summary.get("parameters", "—"),
        **recipe,
        "seed": record["seed"],
        "engine": summary["engine"],
        "device": summary["device"],
        "library versions": ", ".join(f"{name} {summary[name]}" for name in LIBRARIES if summary.get(name)),
        "recipe name": record["recipe"]["name"],
        "threads": record.get("threads", "—"),
    }


def idle_fields(recipe: Mapping[str, RecipeValue]) -> set[str]:
    """Fields that have no effect under the others."""
    return {field for field, (other, values) in IDLE.items() if recipe.get(other) in values}
