"""Our bare step beside the plain one of a good user, and beside the products of matrices of the same library.

Three things take turns, in two processes: products and steps of ours, and steps of the plain program; for each engine and precision.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from job.bench.contest import NAMED_KERNELS, Setup, start
from job.bench.figures import ratio, spread
from job.bench.turns import Contestant
from job.core.recipe import Recipe
from tools.bench.plan import Plan, reported
from tools.bench.whole import Settings

MODULES = {"torch": "torch_programs", "tensorflow": "keras_programs"}
Found = dict[str, Any]


def measure(plan: Plan, threads: int, say: Callable[[str], None]) -> dict[str, Found]:
    """`ENGINE PRECISION` → figures."""
    found = {}
    for engine in plan.engines:
        for precision in plan.precisions:
            say(f"steps: {engine}, {precision}")
            with reported(say):
                found[f"{engine} {precision}"] = turns(engine, precision, plan, threads)
    return found


def turns(engine: str, precision: str, plan: Plan, threads: int) -> Found:
    recipe = Recipe(image_size=plan.image_size, width=plan.width, batch_size=plan.batch_size, precision=precision)
    setup = Setup(recipe=recipe, engines=(engine,), device="auto", threads=threads, turns=plan.turns, steps=1, size=plan.product_size)
    with start(engine, setup) as ours, program(engine, "plain", precision, plan, threads) as plain:
        count = max(1, round(plan.turn_seconds / ours.take("steps", 1)["seconds"]))
        plain.take("steps", 1)
        rows = [(ours.take("products", setup.size), ours.take("steps", count), plain.take("steps", count)) for _ in range(plan.turns)]
        kernels = ours.take("kernels", 2)["kernels"]
    peaks = [products["flop_per_second"] for products, _, _ in rows]
    steps, plains = [step["seconds"] for _, step, _ in rows], [step["seconds"] for _, _, step in rows]
    flop, busy = plan.batch_size * recipe.architecture().flop, sum(seconds for _, seconds in kernels)
    return {
        "step_seconds": spread(steps),
        "images_per_second": spread([plan.batch_size / seconds for seconds in steps]),
        "plain_images_per_second": spread([plan.batch_size / seconds for seconds in plains]),
        "cpu_seconds": spread([step["cpu_seconds"] for _, step, _ in rows]),
        "plain_cpu_seconds": spread([step["cpu_seconds"] for _, _, step in rows]),
        "product_flop_per_second": spread(peaks),
        "utilization": ratio([flop / seconds for seconds in steps], peaks),
        "over_plain": ratio(plains, steps),
        "peak_host_memory_bytes": ours.peak_host_memory,
        "plain_peak_host_memory_bytes": plain.peak_host_memory,
        "kernels": [(name, seconds / busy) for name, seconds in kernels[:NAMED_KERNELS]],
    }


def program(engine: str, name: str, precision: str, plan: Plan, threads: int, **more: Any) -> Contestant:
    """One that is not ours."""
    settings = Settings(
        precision=precision, image_size=plan.image_size, threads=threads, **{"batch_size": plan.batch_size, "steps": 1} | more
    )
    command = [sys.executable, "-m", f"tools.bench.{MODULES[engine]}", name, json.dumps(asdict(settings))]
    return Contestant(f"{name} {engine}", command)
