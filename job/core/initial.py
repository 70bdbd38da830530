"""Initial weights: float32, in canonical layout (OIHW, OI, O), bit-identical in both engines."""

from collections.abc import Iterator
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture, Layer
from job.core.recipe import Recipe
from job.core.sampling import uniform

LAST_LAYER_STD = 0.01
"""Standard deviation in the last layer under `he-uniform`.  He's own bound there gives an initial loss of 4 to 9 instead of ln 10 = 2.3."""


def initial_weights(recipe: Recipe, architecture: Architecture, seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name, tensor) for every parameter, in network order.  A generator: the 228 MB are never in memory twice."""
    for index, (name, shape) in enumerate(architecture.parameter_shapes.items()):
        layer = next(row for row in architecture.weighted if name.startswith(row.name + "."))
        bound = _bound(recipe.initial_weights, layer, bias=name.endswith(".bias"), last=layer is architecture.head)
        size = int(np.prod(shape))
        yield name, (uniform(seed, index, size) * np.float32(bound)).reshape(shape) if bound else np.zeros(shape, np.float32)


def _bound(scheme: str, layer: Layer, *, bias: bool, last: bool) -> float:
    """b of the uniform distribution on [-b, b); 0 for zeros.

    `he-uniform`: He et al. 2015, eq. 14, as a uniform distribution.  `torch`: the default of `nn.Conv2d` and `nn.Linear`, weights and
    biases within 1/√fan_in.  `keras`: Glorot and Bengio 2010, eq. 16, zero biases.
    """
    if scheme == "torch":
        return 1 / sqrt(layer.fan_in)
    if bias:
        return 0.0
    if scheme == "keras":
        return sqrt(6 / (layer.fan_in + layer.fan_out))
    return LAST_LAYER_STD * sqrt(3) if last else sqrt(6 / layer.fan_in)
