"""Where two traces of one recipe part, and by how much: layer by layer, in the order in which a step computes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.records import TraceFacts
from job.parity.alone import Alone
from job.parity.difference import NONE, UNKNOWN, Difference, Numbers, difference_of
from job.parity.tracefile import Trace

KINDS = (
    "initial",
    "inputs",
    "masks",
    "activations",
    "logits",
    "hits",
    "cross-entropy",
    "loss",
    "evaluation",
    "gradients",
    "update",
    "slots",
    "weights",
    "loaded",
)
WHOLE = ("inputs", "logits", "hits", "cross-entropy", "loss", "evaluation")
"""of no single layer"""
BITS = dict.fromkeys(("initial", "inputs", "masks", "hits", "loaded"), 0.0)
LIMITS: dict[str, dict[str, float]] = {
    "fp64": BITS
    | dict.fromkeys(("activations", "logits", "cross-entropy", "loss", "gradients", "update", "slots", "weights"), 1e-11)
    | {"evaluation": 2e-7},  # which is stored as float32
    "fp32": BITS
    | dict.fromkeys(("activations", "logits", "loss", "evaluation"), 5e-6)
    | {"cross-entropy": 1e-6, "update": 1e-5, "gradients": 1e-2, "slots": 2e-2, "weights": 1e-2},
    "bf16": BITS
    | dict.fromkeys(("activations", "logits", "loss", "evaluation"), 2e-2)
    | {"activations/normalize": 5e-6, "activations/resize": 5e-6, "update": 1e-5, "cross-entropy": 1e-6}
    | {"gradients": 0.6, "gradients/classifier": 0.2, "gradients/classifier.6": 3e-2, "gradients/classifier.6.weight": 1.5e-2},
}
"""Largest difference that is let pass, by kind or by kind/layer; what is not named is reported only (docs/parity.md says why so much)."""
BY_NORM: dict[str, frozenset[str]] = {
    "fp64": frozenset(),
    "fp32": frozenset({"gradients", "slots", "weights"}),
    "bf16": frozenset({"activations", "logits", "evaluation", "gradients", "slots", "weights"}),
}
ALONE = frozenset({"hits", "cross-entropy", "update", "loaded"})
"""of each trace in itself"""
EVERY_STEP = frozenset({"initial", "inputs", "masks"}) | ALONE
"""What fp32 and bf16 judge at every step; the rest where both engines still have the same weights: at step 0, and the other weights."""
ADAM_WEIGHTS = 1e-8
"""in fp64, of the weights under Adam: where a gradient is near zero, g / (|g| + ε) makes up to 1/ε = 10⁸ of its rounding"""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """All differences, in the order of computation."""

    limits: Mapping[str, float]
    differences: tuple[Difference, ...]

    @property
    def first(self) -> Difference | None:
        """The first of the two traces that is not equal to the bit."""
        return next((d for d in self.differences if d.relative and not d.trace), None)

    @property
    def failure(self) -> Difference | None:
        """The first beyond its limit."""
        return next((d for d in self.differences if d.fails), None)

    def worst(self, layer: str, kind: str) -> Difference | None:
        """Of all steps and parameters of a layer, or of those that are judged."""
        found = [d for d in self.differences if d.layer == layer and d.kind == kind]
        return max(found, key=lambda d: (d.limit is not None, d.fails, d.relative), default=None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null stands for it."""
        rows = [{**_finite(asdict(d)), "fails": d.fails} for d in self.differences]
        pair = {"first_difference": self.first, "first_failure": self.failure}
        first = {key: rows[self.differences.index(d)] if d else None for key, d in pair.items()}
        return {"equal": not self.failure, "limits": dict(self.limits), **first, "differences": rows}


def compare(one: Trace, other: Trace, limits: Mapping[str, float] | None = None) -> Parity:
    """Raises JobError (2) where the traces are of other recipes, seeds or steps, naming what differs."""
    check_comparable(one, other)
    recipe = Recipe().with_values(one.facts["recipe"])
    given = limits or {}
    chosen = {key: limit for key, limit in limits_of(recipe).items() if not key.startswith(tuple(given))} | dict(given)
    alone = {label: Alone(trace, recipe) for label, trace in (("a", one), ("b", other))}
    differences = []
    for step, kind, name, key in sequence(recipe, recipe.architecture(), one.facts["steps"], one.facts["at"]):
        judged = recipe.precision == "fp64" or step == 0 or kind in EVERY_STEP or key.startswith("other/")
        limit = chosen.get(limit_key(chosen, kind, name)) if judged else None
        if kind in ALONE:
            found = [(label, *f) for label, trace in alone.items() for f in trace.check(kind, step, name)]
        else:
            row = step if kind == "loss" else None
            found = [("", name, *measured(one, other, key, row, kind in BY_NORM[recipe.precision]))]
        for label, what, (absolute, relative, ulp), note in found:
            differences.append(
                Difference(
                    kind=kind, name=what, step=step, trace=label, absolute=absolute, relative=relative, ulp=ulp, limit=limit, note=note
                )
            )
    return Parity(limits=chosen, differences=tuple(differences))


def limits_of(recipe: Recipe) -> dict[str, float]:
    """The stated tolerances; what is not named is not judged."""
    adam = {"weights": ADAM_WEIGHTS} if recipe.precision == "fp64" and recipe.optimizer != "sgd" else {}
    return {**LIMITS[recipe.precision], **adam}


def limit_key(limits: Mapping[str, float], kind: str, name: str) -> str:
    """Of the limit that says most of this tensor; "" where there is none."""
    return max((key for key in limits if f"{kind}/{name}".startswith(key)), key=len, default="")


def check_comparable(one: Trace, other: Trace) -> None:
    """The same recipe but for its name, the same seed, the same steps; engine, versions, device and threads may differ."""
    mine, theirs = (_compared(t.facts) for t in (one, other))
    different = [f"{key}: {mine.get(key)!r} and {theirs.get(key)!r}" for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    if different:
        raise JobError(
            Exit.USAGE,
            f"{one.url} and {other.url} are traces of different things ({'; '.join(different)}). "
            "Expected one recipe, seed and choice of steps. Make both again with the same options of `alexnet trace`.",
        )


def _compared(facts: TraceFacts) -> dict[str, object]:
    return {**facts["recipe"], "seed": facts["seed"], "steps": facts["steps"], "at": facts["at"], "name": ""}


def sequence(recipe: Recipe, architecture: Architecture, steps: int, at: list[int]) -> Iterator[tuple[int, str, str, str]]:
    """(step, kind, name, key in the file) of all that can be compared, as it is computed: gradients come from the last layer."""
    parameters = list(architecture.parameter_shapes)
    for name in parameters:
        yield -1, "initial", name, f"initial/{name}"
    for step in range(steps):
        yield step, "inputs", "", f"{step}/inputs"
        if step in at:
            yield from observed(recipe, architecture, step, first=step == min(at))
        yield step, "loss", "", "losses"
        if step in at:
            yield step, "evaluation", "", f"{step}/evaluation"
            for name in reversed(parameters):
                yield step, "gradients", name, f"{step}/gradients/{name}"
            for name in parameters:
                yield step, "update", name, ""
        if step in at or step + 1 in at:
            for slot in recipe.slots:
                for name in parameters:
                    yield step, "slots", f"{slot}/{name}", f"{step}/slots/{slot}/{name}"
            for name in parameters:
                yield step, "weights", name, f"{step}/weights/{name}"
        if step == min(at):
            yield step, "evaluation", "other weights", "other/evaluation"
            for name in (*parameters, ""):
                yield step, "loaded", name, ""


def observed(recipe: Recipe, architecture: Architecture, step: int, *, first: bool) -> Iterator[tuple[int, str, str, str]]:
    """The same of the forward pass."""
    dropouts = {layer.name for layer in architecture.dropouts} if recipe.dropout else set()
    for stage in stages(architecture):
        if stage in dropouts:
            yield step, "masks", stage, f"{step}/masks/{stage}"
        if first:
            yield step, "activations", stage, f"{step}/activations/{stage}"
    yield step, "logits", "", f"{step}/logits"
    yield step, "hits", "", ""
    yield step, "cross-entropy", "", ""


def stages(architecture: Architecture) -> tuple[str, ...]:
    """What `stages` of both engines passes through."""
    return ("normalize", "resize", *(layer.name for layer in architecture.layers))


def measured(one: Trace, other: Trace, key: str, row: int | None, by_norm: bool) -> tuple[Numbers, str]:
    """The difference of a tensor, of one row of it, or of what a digest stands for; and a note where it is unknown."""
    digests = [t.facts["digests"].get(key) for t in (one, other)]
    if digests[0] == digests[1] is not None:
        return NONE, ""
    for trace in (one, other):
        if key not in trace.names and key not in trace.facts["digests"]:
            return UNKNOWN, f"{trace.facts['environment']['engine']} has none"
    if not (key in one.names and key in other.names):
        return UNKNOWN, "their digests differ"
    a, b = (t[key] if row is None else t[key][row : row + 1] for t in (one, other))
    return difference_of(a, b, by_norm)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
