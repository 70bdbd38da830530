"""What changes in the course of a training: the learning rate of each step, with factors for single layers, the image size, the
decay of an average."""

from fractions import Fraction
from math import cos, floor, pi

from job.core.architecture import Architecture
from job.core.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The rate of step `step` (from 0) of `total`: it rises linearly to `recipe.learning_rate` over the share `recipe.warmup` of all
    steps, then falls to zero linearly or as half a cosine, or stays constant."""
    warmup = round(recipe.warmup * total)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    left = (total - step) / max(total - warmup, 1)
    return recipe.learning_rate * (left if recipe.schedule == "linear" else (1 - cos(pi * left)) / 2)


def rate_factors(recipe: Recipe, architecture: Architecture) -> dict[str, float]:
    """Parameter name → factor on the learning rate (1 for names that are absent): pretrained layers learn at a rate of their own."""
    head = architecture.head.name + "."
    reused = [name for name in architecture.parameter_shapes if not name.startswith(head)]
    return dict.fromkeys(reused, recipe.pretrained_rate) if recipe.pretrained else {}


def ema_decay(recipe: Recipe, number: int) -> float:
    """Of the average of the weights at the `number`-th step of the run, from 1: less at first, so that it soon forgets the initial weights
    (as the `num_updates` of `tf.train.ExponentialMovingAverage` has it)."""
    return min(recipe.ema_decay, number / (number + 9))


def image_size(recipe: Recipe, epoch: int, epochs: int) -> int:
    """Side in pixels of the training images in epoch `epoch` (from 0) of `epochs`, of which the last has `recipe.image_size`."""
    end = Fraction(0)
    for size, share in recipe.smaller_sizes:
        end += share
        if epoch < floor(end * epochs):
            return size
    return recipe.image_size
