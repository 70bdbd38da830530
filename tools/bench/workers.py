"""Two workers with half of the threads each beside one with all; what they exchange and agree on; what shards cost one worker.

Three processes for each engine, which take turns: the one alone with S = 1, 2, 4 and 8 gradient shards, and the two at once with S = 2.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from job.bench.figures import ratio, spread
from job.bench.turns import Contestant, Reply
from job.core.place import Place
from job.core.recipe import Recipe
from tests.support.servers import free_ports
from tools.bench.plan import Plan, reported

SHARDS = (1, 2, 4, 8)
"""of the one alone"""
WORKERS = 2
AGREEMENTS = 200
"""of a turn"""
Found = dict[str, Any]


def measure(plan: Plan, threads: int, say: Callable[[str], None]) -> dict[str, Found]:
    """Engine → figures, in the precision of the whole programs."""
    found = {}
    for engine in plan.engines:
        say(f"workers: {engine}")
        with reported(say):
            found[engine] = turns(engine, plan, threads)
    return found


def turns(engine: str, plan: Plan, threads: int) -> Found:
    recipe = Recipe(image_size=plan.image_size, width=plan.width, batch_size=plan.batch_size, precision=plan.precisions[-1])
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(WORKERS))
    places = [Place(rank=rank, workers=WORKERS, local_workers=WORKERS, local_rank=rank, addresses=addresses) for rank in range(WORKERS)]
    with ExitStack() as stack, ThreadPoolExecutor(WORKERS) as pool:
        started = [program(engine, recipe, threads, Place()), *(program(engine, recipe, max(1, threads // WORKERS), p) for p in places)]
        for one in started:
            stack.callback(one.close)  # also of those whose turn to be waited for does not come
        alone, *pair = [stack.enter_context(one) for one in started]

        def of_both(action: str, count: int) -> Sequence[Reply]:
            return [*pool.map(lambda worker: worker.take(action, count), pair)]

        def seconds_of_both(action: str, count: int) -> list[float]:
            """Of the slower one, once for each turn."""
            return [max(reply["seconds"] for reply in of_both(action, count)) for _ in range(plan.turns)]

        def round_of_turns() -> Mapping[int, Sequence[Reply]]:
            """Shards of the one → its reply, and under 0 those of the two."""
            one = {shards: [alone.take(f"steps-{shards}", count)] for shards in SHARDS}
            return {**one, 0: of_both(f"steps-{WORKERS}", count)}

        count = 1
        seconds = round_of_turns()[1][0]["seconds"]
        count = max(1, round(plan.turn_seconds / seconds / 2))
        rows = [round_of_turns() for _ in range(plan.turns)]
        agreements, comparisons = seconds_of_both("agreements", AGREEMENTS), seconds_of_both("comparisons", 1)
        memory = [worker.peak_host_memory for worker in (alone, *pair)]
    one = [row[1][0]["seconds"] for row in rows]
    both = [max(reply["seconds"] for reply in row[0]) for row in rows]
    exchange = [min(reply["exchange_seconds"] for reply in row[0]) for row in rows]
    return {
        "step_seconds": spread(one),
        "pair_step_seconds": spread(both),
        "pair_over_one": ratio(one, both),
        "exchange_share": ratio(exchange, both),
        "agreement_seconds": spread(agreements),
        "comparison_seconds": spread(comparisons),
        "shards_over_one": {str(shards): ratio([row[shards][0]["seconds"] for row in rows], one) for shards in SHARDS[1:]},
        "peak_host_memory_bytes": memory[0],
        "pair_peak_host_memory_bytes": sum(memory[1:]),
    }


def program(engine: str, recipe: Recipe, threads: int, place: Place) -> Contestant:
    words = [engine, str(threads), json.dumps(asdict(place)), json.dumps(recipe.as_dict())]
    return Contestant(f"worker {place.rank} of {engine}", [sys.executable, "-m", "tools.bench.one_of_several", *words])
