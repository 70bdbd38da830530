"""Weights and optimiser state in the files of a checkpoint: what a run and a trace save and load."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.recipe import Recipe
from job.runs.tensorfile import read_tensors, write_tensors

Tensors = Iterator[tuple[str, NDArray[Any]]]
"""(canonical name, array in canonical layout), in network order"""
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"


def state_bytes(recipe: Recipe, architecture: Architecture) -> int:
    """Of the weights and the optimiser's tensors."""
    return architecture.parameters * np.dtype(recipe.dtype).itemsize * (1 + len(recipe.slots))


def write_state(folder: Path, recipe: Recipe, architecture: Architecture, weights: Tensors, slots: Tensors) -> None:
    """Tensor by tensor, so that host memory holds one at a time."""
    write_tensors(folder / MODEL, architecture.parameter_shapes, recipe.dtype, weights)
    write_tensors(folder / OPTIMIZER, slot_shapes(recipe, architecture), recipe.dtype, slots)


def read_state(folder: Path, recipe: Recipe, architecture: Architecture) -> tuple[Tensors, Tensors]:
    """(weights, slots) that `write_state` left.  Iterating raises JobError (65), naming the file and the tensor."""
    weights = read_tensors(folder / MODEL, architecture.parameter_shapes)
    return weights, read_tensors(folder / OPTIMIZER, slot_shapes(recipe, architecture))


def slot_shapes(recipe: Recipe, architecture: Architecture) -> Mapping[str, tuple[int, ...]]:
    return {f"{slot}/{name}": shape for slot in recipe.slots for name, shape in architecture.parameter_shapes.items()}
