"""`python -m tools.overlap`: do two workers gain by exchanging gradients while the backward pass still computes?  Torch, on CPUs.

Two processes of one thread each take the same steps of the recipe `default` in two ways, by turns: with the sums after the backward pass,
as `alexnet train` does, and with each parameter's sum begun as soon as its gradient is there.  Two minutes on two cores.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from job.bench.worker import IMAGES, RATE, loaded
from job.core.place import Place
from job.core.recipe import Recipe
from job.core.sampling import StepPlan, permutation, plan
from job.engines import find_engine
from tests.support.servers import free_ports

WORKERS = 2
TURNS, STEPS = 8, 3


def overlapping(network: Any, plan: StepPlan, *, rate: float, number: int) -> None:
    """`TorchNetwork.step` of one shard for each worker, but for loss and hits."""
    import torch
    from torch import distributed

    from job.engines.torch_engine import clip, smoothed_cross_entropy

    sums: list[Any] = []
    parameters = [*network.parameters.values()]

    def begin(parameter: Any) -> None:
        sums.append(distributed.all_reduce(parameter.grad, group=network.exchange._pairs[0], async_op=True))

    hooks = [parameter.register_post_accumulate_grad_hook(begin) for parameter in parameters]
    images, targets, keys = network._batch(plan.shard(network.exchange.place.rank, WORKERS))
    logits = network.forward(images, keys, plan.image_size)
    smoothed_cross_entropy(logits, targets, network.recipe.label_smoothing).backward()
    for work in sums:
        work.wait()
    gradients = [parameter.grad for parameter in parameters]
    with torch.no_grad():
        torch._foreach_mul_(gradients, 1 / WORKERS)
        clip(gradients, network.recipe.clip_norm)
        network.update(gradients, rate, number)
    for hook, parameter in zip(hooks, parameters, strict=True):
        hook.remove()
        parameter.grad = None


def worker(rank: int, port: str) -> None:
    import numpy as np

    engine = find_engine("torch", device="cpu")
    exchange = engine.meet(1, Place(rank=rank, workers=WORKERS, addresses=(f"127.0.0.1:{port}",)), WORKERS, 600.0)
    recipe = Recipe(precision=engine.resolve("auto"))
    network, order = loaded(engine, recipe, exchange), permutation(0, 0, IMAGES)
    chosen = plan(recipe, recipe.architecture(), 0, order, epoch=0, step=0)

    def seconds(step: Callable[..., None], count: int) -> float:
        exchange.total(np.zeros(1, np.int32))  # both begin at once
        begun = time.perf_counter()
        for _ in range(count):
            step(chosen, rate=RATE, number=1)
        return (time.perf_counter() - begun) / count

    ways = {"after": network.step, "beside": partial(overlapping, network)}
    for step in ways.values():
        seconds(step, 1)
    rows = [{name: seconds(step, STEPS) for name, step in ways.items()} for _ in range(TURNS)]
    exchange.close()
    if rank == 0:
        for name in ways:
            took = sorted(1e3 * row[name] for row in rows)
            print(f"sums {name} the backward pass: {median(took):.0f} ms a step ({took[0]:.0f} … {took[-1]:.0f})")
        gain = sorted(row["after"] / row["beside"] for row in rows)
        print(f"after ÷ beside, by turns: {median(gain):.3f} ({gain[0]:.3f} … {gain[-1]:.3f})")


def main() -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tools.overlap"]
    for process in [subprocess.Popen([*command, str(rank), str(port)]) for rank in range(WORKERS)]:
        process.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        worker(int(sys.argv[1]), sys.argv[2])
    else:
        main()
