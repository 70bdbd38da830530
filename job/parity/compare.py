"""Where two traces of one recipe part, and by how much: layer by layer, in the order in which a step computes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.records import TraceFacts
from job.parity.tracefile import Trace

KINDS = ("initial", "inputs", "masks", "activations", "logits", "loss", "gradients", "slots", "weights")
BITS = dict.fromkeys(("initial", "inputs", "masks"), 0.0)
LIMITS: dict[str, dict[str, float]] = {
    "fp64": BITS | dict.fromkeys(("activations", "logits", "loss", "gradients", "slots", "weights"), 1e-11),
    "fp32": BITS | {"activations": 5e-6, "logits": 5e-6, "loss": 5e-6, "gradients": 1e-2},
}
"""Largest relative difference that is let pass.  In fp64 at every step.  In fp32 at step 0, where both still have the same weights:
later steps, and what has no limit, are reported only.  inputs, masks and initial weights are equal to the bit, at every step."""
ADAM_WEIGHTS = 1e-8
"""in fp64, of the weights under Adam: where a gradient is near zero, g / (|g| + ε) makes up to 1/ε = 10⁸ of its rounding"""

Numbers = tuple[float, float, float]
"""absolute, relative, ULP"""
NONE, UNKNOWN = (0.0, 0.0, 0.0), (math.inf, math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One tensor of both traces; `note` says why the numbers are infinite."""

    kind: str
    name: str
    """layer or parameter; "" for inputs, logits and loss"""
    step: int
    """-1: before the first"""
    absolute: float
    """largest |a - b|"""
    relative: float
    """the same over the largest |b|; of gradients in fp32: ‖a - b‖ / ‖b‖"""
    ulp: float
    """|a - b| in units of the last place, where it is largest"""
    limit: float | None
    note: str = ""

    @property
    def fails(self) -> bool:
        return self.limit is not None and not self.relative <= self.limit

    @property
    def layer(self) -> str:
        """The row of the table."""
        parameter = self.name.rpartition("/")[2]
        return parameter.removesuffix(".weight").removesuffix(".bias") or self.kind


@dataclass(frozen=True, kw_only=True)
class Parity:
    """All differences, in the order of computation."""

    limits: Mapping[str, float]
    differences: tuple[Difference, ...]

    @property
    def first(self) -> Difference | None:
        """The first that is not equal to the bit."""
        return next((d for d in self.differences if d.relative), None)

    @property
    def failure(self) -> Difference | None:
        """The first beyond its limit."""
        return next((d for d in self.differences if d.fails), None)

    def worst(self, layer: str, kind: str) -> Difference | None:
        """Of all steps and parameters of a layer."""
        found = [d for d in self.differences if d.layer == layer and d.kind == kind]
        return max(found, key=lambda d: (d.fails, d.relative), default=None)

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
    chosen = {**limits_of(recipe), **(limits or {})}
    differences = []
    for step, kind, name, key in sequence(recipe, recipe.architecture(), one.facts["steps"], one.facts["at"]):
        judged = kind in chosen and (kind in BITS or recipe.precision == "fp64" or step == 0)
        by_norm = kind == "gradients" and recipe.precision == "fp32"
        (absolute, relative, ulp), note = measured(one, other, key, step if kind == "loss" else None, by_norm)
        limit = chosen[kind] if judged else None
        differences.append(
            Difference(kind=kind, name=name, step=step, absolute=absolute, relative=relative, ulp=ulp, limit=limit, note=note)
        )
    return Parity(limits=chosen, differences=tuple(differences))


def limits_of(recipe: Recipe) -> dict[str, float]:
    """The stated tolerances; what is not named is not judged."""
    adam = {"weights": ADAM_WEIGHTS} if recipe.precision == "fp64" and recipe.optimizer != "sgd" else {}
    return {**LIMITS[recipe.precision], **adam}


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
    dropouts = {layer.name for layer in architecture.dropouts} if recipe.dropout else set()
    for step in range(steps):
        yield step, "inputs", "", f"{step}/inputs"
        if step in at:
            for stage in stages(architecture):
                if stage in dropouts:
                    yield step, "masks", stage, f"{step}/masks/{stage}"
                if step == min(at):
                    yield step, "activations", stage, f"{step}/activations/{stage}"
            yield step, "logits", "", f"{step}/logits"
        yield step, "loss", "", "losses"
        if step in at:
            for name in reversed(parameters):
                yield step, "gradients", name, f"{step}/gradients/{name}"
            for slot in recipe.slots:
                for name in parameters:
                    yield step, "slots", f"{slot}/{name}", f"{step}/slots/{slot}/{name}"
            for name in parameters:
                yield step, "weights", name, f"{step}/weights/{name}"


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
    if a.shape != b.shape:
        return UNKNOWN, f"shapes {a.shape} and {b.shape}"
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return (NONE, "") if np.array_equal(a, b, equal_nan=True) else (UNKNOWN, "not all numbers are finite")
    return distance(a, b, by_norm), ""


def distance(a: NDArray[Any], b: NDArray[Any], by_norm: bool = False) -> Numbers:
    """(absolute, relative, ULP) difference of two tensors of one type and shape."""
    if np.array_equal(a, b):
        return NONE
    apart = np.abs(a.astype(np.float64) - b)
    place = np.unravel_index(apart.argmax(), apart.shape)
    largest = float(apart[place])
    part, whole = (largest, float(np.abs(b).max()))
    if by_norm:
        part, whole = (float(np.linalg.norm(t)) for t in (apart.ravel(), b.astype(np.float64).ravel()))
    return largest, part / whole if whole else math.inf, largest / float(np.spacing(max(np.abs(a[place]), np.abs(b[place]))))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
