"""What an engine's own numbers must come to, in float64: the loss and the hits of its logits, the update of its gradients.

Written from docs/design.md, "Update rule", not from the engines.  Nothing here depends on how a network rounds, so that it is judged as
sharply in bf16 as in fp32.
"""

from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.recipe import Recipe

Doubles = NDArray[np.float64]


def loss(logits: NDArray[Any], labels: NDArray[np.integer[Any]], smoothing: float) -> float:
    """Mean cross-entropy in nats of (B, classes) logits, each target mixed with `smoothing` of a uniform distribution."""
    exact = logits.astype(np.float64)
    largest = exact.max(1, keepdims=True)
    log_odds = exact - largest - np.log(np.exp(exact - largest).sum(1, keepdims=True))
    target = log_odds[np.arange(len(labels)), labels]
    return float(-((1 - smoothing) * target + smoothing * log_odds.mean(1)).mean())


def hits(logits: NDArray[Any], labels: NDArray[np.integer[Any]], rounding: float) -> tuple[int, int]:
    """(fewest, most) images that can count as right where each logit may be off by `rounding`."""
    own = logits[np.arange(len(labels)), labels].astype(np.float64)
    others = logits.astype(np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    lead = own - others.max(1)
    return int((lead > 2 * rounding).sum()), int((lead >= -2 * rounding).sum())


def clip_factor(recipe: Recipe, gradients: Iterable[NDArray[Any]]) -> float:
    """By which clipping scales all gradients."""
    if not recipe.clip_norm:
        return 1.0
    norm = sqrt(sum(float(np.vdot(exact, exact)) for exact in (g.astype(np.float64).ravel() for g in gradients)))
    return min(1.0, recipe.clip_norm / (norm + 1e-6))


def update(
    recipe: Recipe, weight: Doubles, slots: Mapping[str, Doubles], gradient: Doubles, *, decays: bool, rate: float, number: int
) -> tuple[Doubles, dict[str, Doubles]]:
    """(weight, slots) after step `number` (from 1) at learning rate `rate`, given those before it and the clipped gradient."""
    if not recipe.ema_decay:
        return updated(recipe, weight, slots, gradient, decays=decays, rate=rate, number=number)
    trained, new_slots = updated(recipe, slots["trained"], slots, gradient, decays=decays, rate=rate, number=number)
    decay = min(recipe.ema_decay, number / (number + 9))
    return decay * weight + (1 - decay) * trained, {**new_slots, "trained": trained}


def updated(
    recipe: Recipe, weight: Doubles, slots: Mapping[str, Doubles], gradient: Doubles, *, decays: bool, rate: float, number: int
) -> tuple[Doubles, dict[str, Doubles]]:
    """The same of the optimiser alone."""
    g = gradient + recipe.weight_decay * weight if decays else gradient
    if recipe.optimizer == "sgd":
        v = recipe.momentum * slots["momentum"] + g
        return weight - rate * (g + recipe.momentum * v if recipe.nesterov else v), {"momentum": v}
    m = recipe.beta1 * slots["first_moment"] + (1 - recipe.beta1) * g
    v = recipe.beta2 * slots["second_moment"] + (1 - recipe.beta2) * g**2
    unbiased1, unbiased2 = 1 - recipe.beta1**number, sqrt(1 - recipe.beta2**number)
    if recipe.optimizer == "adam":
        step = rate / unbiased1 * m / (np.sqrt(v) / unbiased2 + recipe.epsilon)
    else:
        step = rate * unbiased2 / unbiased1 * m / (np.sqrt(v) + recipe.epsilon)
    return weight - step, {"first_moment": m, "second_moment": v}
