"""`python -m tests.engines.exchange ENGINE RANK ADDRESS ADDRESS`: one of two workers, which add tensors of several shapes.  Prints a JSON
list: whether each sum has the bytes of NumPy's.
"""

import importlib
import json
import os
import sys
from typing import Any

import numpy as np

from job.core.place import Place
from job.engines import find_engine

SHAPES = ((), (), (3,), (4, 5), (8, 3, 2, 2))


def summands(rank: int) -> list[Any]:
    generator = np.random.Generator(np.random.PCG64(rank))
    return [np.asarray(generator.normal(size=shape), np.float32) for shape in SHAPES]


def as_tensor(name: str, array: Any) -> Any:
    """In torch as the gradient of a convolution lies in memory."""
    if name == "tensorflow":
        import tensorflow as tf

        return tf.constant(array)
    import torch

    tensor = torch.tensor(array)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def main(name: str, rank: int, addresses: tuple[str, ...]) -> None:
    exchange = find_engine(name, device="cpu").meet(1, Place(rank=rank, workers=2, addresses=addresses), 2, 60.0)
    if name == "tensorflow":
        importlib.import_module("job.engines.tensorflow_exchange").PIECE = 7  # of which no shape is a multiple
    found = [tensor.numpy() for tensor in exchange.add([as_tensor(name, array) for array in summands(rank)])]
    wanted = [a + b for a, b in zip(summands(0), summands(1), strict=True)]
    print(json.dumps([a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(found, wanted, strict=True)]), flush=True)
    exchange.close()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), tuple(sys.argv[3:]))
