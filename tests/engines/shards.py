"""`python -m tests.engines.shards torch|tensorflow`: how an engine adds the gradients of four shards.  Prints one JSON object, what was
computed in another way → whether it has the same bytes.
"""

import json
import sys
from typing import Any

import numpy as np

from job import engines
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sharding import tree_sum
from job.engines.exchange import Alone
from tests.engines.probe import pictures, plan_of
from tests.engines.traces import SMALL

SHARDS = 4
RECIPE = SMALL.with_values({"precision": "fp32", "clip_norm": 0})
Parts = list[np.ndarray]


def network_of(name: str, recipe: Recipe = RECIPE) -> Any:
    architecture = recipe.architecture()
    network = engines.open_engine(name, device="cpu", threads=1).network(recipe, architecture, exchange=Alone(SHARDS))
    network.place("train", *pictures(32))
    network.load(initial_weights(recipe, architecture, 3), ())
    return network


def torch_sums() -> tuple[list[Parts], Parts, Parts | None]:
    """(parts of each shard, their sum in a step, their sum where all is added in one graph)."""
    network = network_of("torch")
    plan = plan_of(RECIPE, 0)
    parts = [[part.numpy().copy() for part in network.of_shard(plan, shard)[2:]] for shard in range(SHARDS)]
    found: list[Parts] = []
    network.update = lambda gradients, *_: found.append([g.numpy() * SHARDS for g in gradients])
    network.step(plan, rate=0.01, number=1)
    return parts, found[0], None


def tensorflow_sums() -> tuple[list[Parts], Parts, Parts | None]:
    import tensorflow as tf

    network = network_of("tensorflow")
    plan = plan_of(RECIPE, 0)
    shards = [network._of_shard(*network._constants(plan.shard(shard, SHARDS)), plan.image_size) for shard in range(SHARDS)]
    found: list[Parts] = []
    network._apply = lambda parts, _: found.append([part.numpy() for part in parts[2:]])
    network.step(plan, rate=0.01, number=1)
    from job.engines.tensorflow_engine import add

    in_one_graph = tf.function(lambda shards: tree_sum(lambda shard: shards[shard], add, range(SHARDS)))
    numbers = [[part.numpy() for part in shard[2:]] for shard in shards]
    return numbers, found[0], [part.numpy() for part in in_one_graph(shards)[2:]]


def bytes_of(parts: Parts | None) -> bytes:
    return b"" if parts is None else b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def main(name: str) -> None:
    shards, found, in_one_graph = (torch_sums if name == "torch" else tensorflow_sums)()
    in_pairs = [(a + b) + (c + d) for a, b, c, d in zip(*shards, strict=True)]
    in_a_row = [((a + b) + c) + d for a, b, c, d in zip(*shards, strict=True)]
    own = bytes_of(found)
    same = {"in pairs": in_pairs, "in a row": in_a_row, "in one graph": in_one_graph}
    print(json.dumps({how: bytes_of(parts) == own for how, parts in same.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
