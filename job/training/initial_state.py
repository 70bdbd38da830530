"""What a run begins with: weights drawn from its seed, or all layers but the last from what `--init-from` names."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.engines import Tensors
from job.runs.tensorfile import read_tensors


class InitialState:
    """`source` is that of `--init-from`, or None; `fetch` brings it as a file, and is called when somebody needs it first."""

    def __init__(self, recipe: Recipe, architecture: Architecture, seed: int, source: str | None, fetch: Callable[[str], Path]) -> None:
        self._recipe, self._architecture, self._seed = recipe, architecture, seed
        self._source, self._fetch = source, fetch
        self._path: Path | None = None
        """where it lies, once it was fetched"""

    @property
    def at_hand(self) -> bool:
        """Whether nothing has to be fetched."""
        try:
            return self._source is None or Path(self._source).is_file()
        except (OSError, ValueError):  # no name of a file
            return False

    def fetch(self) -> None:
        """Have what `--init-from` names at hand.  Raises JobError, as `job.runs.pretrained.fetch_weights`."""
        if self._source is not None and self._path is None:
            self._path = self._fetch(self._source)

    @cached_property
    def sha256(self) -> str | None:
        """Over the values taken from there as float32, whatever file they came in, in hexadecimal; None without `--init-from`.

        Raises JobError, as `fetch`, and 65 for a file of another network."""
        if self._source is None:
            return None
        digest = hashlib.sha256()
        for name, array in self._taken_over():
            digest.update(f"{name} {array.shape}\n".encode() + np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()

    def tensors(self, expected: str | None) -> Tensors:
        """Raises JobError, as `sha256`, and 78 where that is not `expected`."""
        drawn = initial_weights(self._recipe, self._architecture, self._seed)
        if self._source is None:
            return drawn
        if expected not in (None, self.sha256):
            raise JobError(
                Exit.CONFIGURATION,
                f"--init-from: these weights have the SHA-256 {self.sha256}, those that the run began with {expected}. Give the same ones.",
            )
        return [*self._taken_over(), *((name, array) for name, array in drawn if name.startswith(self._head))]

    def _taken_over(self) -> Tensors:
        self.fetch()
        assert self._path is not None
        return read_tensors(
            self._path, {n: shape for n, shape in self._architecture.parameter_shapes.items() if not n.startswith(self._head)}
        )

    @property
    def _head(self) -> str:
        return self._architecture.head.name + "."
