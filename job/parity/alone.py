"""What one trace must hold in itself, whatever the other says: hits, loss and update follow from its own numbers, and what was loaded
is what was saved.  Judged at every observed step, in any precision."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from job.core.recipe import Recipe
from job.core.schedule import learning_rate, rate_factors
from job.parity import recomputed
from job.parity.difference import NONE, UNKNOWN, Numbers, difference_of
from job.parity.record import CLASSES, labels_of, plans
from job.parity.tracefile import Trace, digest_of

TIE = 1e-6
"""of the largest logit: classes that are nearer than twice this may count as either"""


class Found(NamedTuple):
    """The difference of one tensor from what it must be, and a note where it is unknown."""

    name: str
    numbers: Numbers
    note: str = ""


class Alone:
    """One trace and the recipe of its steps."""

    def __init__(self, trace: Trace, recipe: Recipe) -> None:
        self._trace, self._recipe = trace, recipe
        self._architecture = recipe.architecture(CLASSES)
        self._factors = rate_factors(recipe, self._architecture)
        self._plans = dict(enumerate(plans(recipe, self._architecture, trace.facts["seed"], trace.facts["steps"])))
        self._clip_factors: dict[int, float] = {}
        self.checks: dict[str, Callable[[int, str], Iterator[Found]]] = {
            "hits": self.hits,
            "cross-entropy": self.cross_entropy,
            "update": self.update,
            "loaded": self.loaded,
        }

    def check(self, kind: str, step: int, name: str) -> Iterator[Found]:
        """What of `kind` there is to say about a layer or parameter `name`."""
        try:
            yield from self.checks[kind](step, name)
        except (KeyError, IndexError, ValueError) as error:  # what is not there, and what has another shape
            yield Found(name, UNKNOWN, f"not to be computed: {error.args[0]}")

    def hits(self, step: int, name: str) -> Iterator[Found]:
        """The step's own count, beside the fewest and the most that its logits allow."""
        logits = self._tensor(f"{step}/logits")
        fewest, most = recomputed.hits(logits, self._labels(step), TIE * float(np.abs(logits).max()))
        counted = self._trace.facts["hits"][step]
        beyond = max(fewest - counted, counted - most, 0)
        wrong = f"{counted} were counted, its logits say {fewest}" + (f" to {most}" if most > fewest else "")
        yield Found(name, (beyond, beyond / len(logits), beyond), wrong if beyond else "")

    def cross_entropy(self, step: int, name: str) -> Iterator[Found]:
        expected = recomputed.loss(self._tensor(f"{step}/logits"), self._labels(step), self._recipe.label_smoothing)
        yield Found(name, *difference_of(self._tensor("losses")[step : step + 1], np.array([expected])))

    def update(self, step: int, name: str) -> Iterator[Found]:
        """Slots and new weights of one parameter."""
        recipe, slots = self._recipe, [f"{slot}/{name}" for slot in self._recipe.slots]
        gradient = self._tensor(f"{step}/gradients/{name}").astype(np.float64)
        weight = self._tensor(f"{step - 1}/weights/{name}" if step else f"initial/{name}").astype(np.float64)
        if step:
            before = [self._tensor(f"{step - 1}/slots/{slot}").astype(np.float64) for slot in slots]
        else:
            before = [weight if slot == "trained" else np.zeros_like(weight) for slot in recipe.slots]
        new_weight, new_slots = recomputed.update(
            recipe,
            weight,
            dict(zip(recipe.slots, before, strict=True)),
            gradient * self._clip_factor(step),
            decays=name.endswith(".weight"),
            rate=learning_rate(recipe, step, self._trace.facts["steps"]) * self._factors.get(name, 1.0),
            number=step + 1,
        )
        for slot, expected in zip(slots, new_slots.values(), strict=True):
            yield Found(slot, *difference_of(self._tensor(f"{step}/slots/{slot}"), expected))
        yield Found(name, *difference_of(self._tensor(f"{step}/weights/{name}"), new_weight))

    def loaded(self, step: int, name: str) -> Iterator[Found]:
        """Slots and weights of one parameter, read again after they were saved and loaded; without a name, what an evaluation says."""
        digests = self._trace.facts["digests"]
        if not name:
            equal = digests["saved/evaluation"] == digests["loaded/evaluation"]
            yield Found("", NONE if equal else UNKNOWN, "" if equal else "not what they were before")
            return
        for key in (*(f"slots/{slot}/{name}" for slot in self._recipe.slots), f"weights/{name}"):
            equal = digest_of(self._tensor(f"{step}/{key}")) == digests[f"loaded/{key}"]
            yield Found(key.partition("/")[2], NONE if equal else UNKNOWN, "" if equal else "not what was saved")

    def _labels(self, step: int) -> NDArray[np.uint8]:
        return labels_of(self._plans[step].indices)

    def _clip_factor(self, step: int) -> float:
        if step not in self._clip_factors:
            names = self._architecture.parameter_shapes
            self._clip_factors[step] = recomputed.clip_factor(self._recipe, (self._tensor(f"{step}/gradients/{name}") for name in names))
        return self._clip_factors[step]

    def _tensor(self, key: str) -> NDArray[Any]:
        """Raises KeyError where the trace has none."""
        if key not in self._trace.names:
            raise KeyError(f"there is no {key}")
        return self._trace[key]
