"""The learning rate of a step, as fractions of the whole run, and of single layers, as a factor of it."""

from math import cos, pi

from job.core.architecture import Architecture
from job.core.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Rate for step `step` of `total` (from 0): rises linearly over `warmup` of all steps to `learning_rate`, then falls to
    zero linearly or as half a cosine, or stays."""
    warmup = round(recipe.warmup * total)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    left = (total - step) / max(total - warmup, 1)
    return recipe.learning_rate * (left if recipe.schedule == "linear" else (1 - cos(pi * left)) / 2)


def rate_factors(recipe: Recipe, architecture: Architecture) -> dict[str, float]:
    """Parameter → factor (default 1): the layers that a pretrained network brings learn at a rate of their own."""
    head = architecture.head.name + "."
    brought = [name for name in architecture.parameter_shapes if not name.startswith(head)]
    return dict.fromkeys(brought, recipe.pretrained_rate) if recipe.pretrained else {}
