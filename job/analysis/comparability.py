"""Everything in which runs differ, and what it means for a comparison.

A difference is unfair unless it has no effect, is the seed (a repetition), or is what may be compared: engine, device, versions, threads
and code, which are possible causes of a difference in the results.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from job.core.recipe import completed
from job.core.records import RecipeValue
from job.runs.contributions import engine_label
from job.runs.results import Results
from job.storage.files import sha256_of

Effect = Literal["unfair", "repetition", "possible cause", "none"]
KNOWN: dict[str, tuple[Effect, str]] = {
    "data fingerprint": ("unfair", "other images or labels"),
    "training images": ("unfair", "more images teach more"),
    "test images": ("unfair", "not the same test"),
    "test labels": ("unfair", "not the same test"),
    "epochs done": ("unfair", "longer training"),
    "parameters": ("unfair", "another network"),
    "initial weights": ("unfair", "another start"),
    "seed": ("repetition", "a repetition"),
    "engine": ("possible cause", "what is compared"),
    "device kind": ("possible cause", "stated: other kernels, other rounding"),
    "device": ("possible cause", "stated: rounding and speed only"),
    "library versions": ("possible cause", "stated"),
    "code": ("possible cause", "stated: another version of this program"),
    "threads": ("possible cause", "stated: rounding only"),
    "shards": ("possible cause", "stated: sums in another order, rounding only"),
    "arithmetic": ("possible cause", "stated: sums in another order, rounding only"),
    "changed after step": ("possible cause", "stated: the steps were shared otherwise"),
    "recipe name": ("none", "a name"),
    "recipe: truncated_test": ("none", "an extra figure only"),
}
"""what differs → its effect, and the reason; anything else changes what is learnt"""
MIXED: tuple[Effect, str] = "unfair", "a run of two engines is no side of a comparison of engines"
ARROW = " → "
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
WITHIN_A_SIDE = ("seed", "device", "threads", "shards", "changed after step", "recipe name", "recipe: truncated_test")
"""in what the runs of one side may differ"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row of the comparability table."""

    what: str
    values: list[str]
    """one for each run"""
    fair: bool
    effect: Effect
    why: str


def find_differences(runs: Sequence[Results]) -> list[Difference]:
    """Everything in which the runs differ, the unfair rows first."""
    table = [described(run) for run in runs]
    rows = []
    for what in dict.fromkeys(key for row in table for key in row):
        values = [str(row.get(what, "—")) for row in table]
        if len(set(values)) > 1:
            effect, why = KNOWN.get(what, ("unfair", "changes what is learnt"))
            if all(what.removeprefix("recipe: ") in idle_fields(run.record["recipe"]) for run in runs):
                effect, why = "none", "without effect in these recipes"
            if what == "engine" and any(ARROW in value for value in values):
                effect, why = MIXED
            rows.append(Difference(what=what, values=values, fair=effect != "unfair", effect=effect, why=why))
    return sorted(rows, key=lambda row: row.fair)


def described(run: Results) -> dict[str, object]:
    """What must be equal for a fair comparison, and what is stated beside it."""
    summary, record, steps = run.summary, run.record, run.contributions
    recipe = {f"recipe: {key}": value for key, value in completed(record["recipe"]).items() if key != "name"}
    changed = [
        a.last_step for a, b in pairwise(steps) if (a.engine, a.device, a.versions, a.code) != (b.engine, b.device, b.versions, b.code)
    ]
    return {
        "data fingerprint": record["data"]["fingerprint"][:12],
        "training images": record["data"]["train_images"],
        "test images": len(run.labels),
        "test labels": sha256_of(run.labels.tobytes())[:12],
        "epochs done": summary["epochs"],
        "initial weights": (record.get("init_from_sha256") or "drawn from the seed")[:19],
        "parameters": summary.get("parameters", "—"),
        **recipe,
        "seed": record["seed"],
        "engine": engine_label(steps),
        "device kind": in_turn(c.device_kind for c in steps),
        "library versions": in_turn(", ".join(f"{name} {version}" for name, version in c.versions) for c in steps),
        "code": in_turn(c.code or "not recorded" for c in steps),
        "device": in_turn(c.device for c in steps),
        **({"changed after step": ", ".join(map(str, changed))} if changed else {}),
        "recipe name": record["recipe"]["name"],
        "threads": record.get("threads", "—"),
        "shards": record.get("shards", 1),
        "arithmetic": record.get("arithmetic", 1),
    }


def features(run: Results) -> dict[str, str]:
    """What decides to which side of a comparison a run belongs: the seed, threads and the like do not."""
    idle = {f"recipe: {field}" for field in idle_fields(run.record["recipe"])}
    return {what: str(value) for what, value in described(run).items() if what not in WITHIN_A_SIDE and what not in idle}


def in_turn(values: Iterable[str]) -> str:
    """`torch`, or `torch → tensorflow`."""
    return ARROW.join(value for value, _ in groupby(values))


def idle_fields(recipe: Mapping[str, RecipeValue]) -> set[str]:
    """Fields that have no effect under the others."""
    return {field for field, (other, values) in IDLE.items() if recipe.get(other) in values}
