"""The network and its optimiser as files: how its tensors are stored, come back, and begin."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from job.core.architecture import Architecture
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.engines import Network, Tensors
from job.runs.tensorfile import read_tensors, write_tensors


def state_bytes(recipe: Recipe, architecture: Architecture) -> int:
    """Of the weights and the optimiser's tensors in a checkpoint."""
    return architecture.parameters * np.dtype(recipe.dtype).itemsize * (1 + len(recipe.slots))


def write_state(folder: Path, network: Network, recipe: Recipe, architecture: Architecture) -> None:
    """Tensor by tensor, so that host memory holds one at a time."""
    write_tensors(folder / "model.safetensors", architecture.parameter_shapes, recipe.dtype, network.weights())
    write_tensors(folder / "optimizer.safetensors", _slot_shapes(recipe, architecture), recipe.dtype, network.slots())


def load_state(folder: Path, network: Network, recipe: Recipe, architecture: Architecture) -> None:
    """What `write_state` left.  Raises JobError (65), naming the file and the tensor."""
    slots = read_tensors(folder / "optimizer.safetensors", _slot_shapes(recipe, architecture))
    network.load(read_tensors(folder / "model.safetensors", architecture.parameter_shapes), slots)


def initial_state(recipe: Recipe, architecture: Architecture, seed: int, init_from: Path | None) -> Tensors:
    """Initial weights; those of all layers but the last come from the file `init_from`, where there is one."""
    drawn = initial_weights(recipe, architecture, seed)
    if init_from is None:
        return drawn
    head = architecture.head.name + "."
    reused = read_tensors(init_from, {n: shape for n, shape in architecture.parameter_shapes.items() if not n.startswith(head)})
    return [*reused, *((n, array) for n, array in drawn if n.startswith(head))]


def _slot_shapes(recipe: Recipe, architecture: Architecture) -> Mapping[str, tuple[int, ...]]:
    return {f"{slot}/{n}": shape for slot in recipe.slots for n, shape in architecture.parameter_shapes.items()}
