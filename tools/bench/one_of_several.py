"""`python -m tools.bench.one_of_several ENGINE THREADS PLACE RECIPE`: a worker of `tools.bench.workers`; PLACE and RECIPE as JSON."""

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from job.bench.turns import Reply, Stages, replies, serve, timed
from job.bench.worker import Worker
from job.core.place import Place
from job.core.recipe import Recipe
from job.engines import Engine, find_engine, translated
from job.engines.exchange import Alone, Exchange
from job.workers.crew import Crew
from job.workers.network import digest
from tools.bench.workers import SHARDS, WORKERS

SILENCE = 600.0
"""seconds that one may wait for another, which takes its turn somewhere else"""


class NoSignal:
    """None arrives."""

    number = 0

    def note(self, number: int) -> None:
        raise NotImplementedError


class OneOfSeveral(Worker):
    """Measures also how long the exchange of gradients takes: waiting for the others, and sending; and what workers agree on."""

    def __init__(self, engine: Engine, recipe: Recipe, exchanges: Mapping[int, Exchange]) -> None:
        """`exchanges`: by number of gradient shards."""
        self._exchanges, self._exchanging = exchanges, 0.0
        super().__init__(engine, recipe, Stages(), next(iter(exchanges.values())))
        for exchange in exchanges.values():
            exchange.add = partial(self._timed, exchange.add)  # type: ignore[method-assign]

    def steps_of(self, shards: int, count: int) -> Reply:
        """Optimiser steps of so many gradient shards."""
        network: Any = self.network
        if network.shards != shards:
            network.exchange, network.shards = self._exchanges[shards], shards
            self.take_steps(1)
        self._exchanging = 0.0
        return {**self.steps(count), "exchange_seconds": self._exchanging / count}

    def agreements(self, crew: Crew, count: int) -> Reply:
        """One comes with each step: what is done next, and whether a signal came."""
        return {**timed(lambda: [crew.agree() for _ in range(count)], count, self.probe.seconds)}

    def comparisons(self, crew: Crew, count: int) -> Reply:
        """One comes with each checkpoint: the digests of all weights and slots."""
        hosts = [""] * crew.place.workers
        return {**timed(lambda: [crew.compare(digest(self.network), hosts, 0) for _ in range(count)], count, self.probe.seconds)}

    def _timed(self, add: Any, tensors: list[Any]) -> list[Any]:
        sums: list[Any] = []
        self._exchanging += self.probe.seconds(lambda: sums.extend(add(tensors)))
        return sums


def main() -> None:
    name, threads, place, recipe = sys.argv[1:5]
    with replies() as reply:
        engine, where = find_engine(name, device="auto"), Place(**json.loads(place))
        with translated(engine):
            if where.alone:
                engine.start(int(threads))
                exchanges: dict[int, Exchange] = {shards: Alone(shards) for shards in SHARDS}
            else:
                exchanges = {WORKERS: engine.meet(int(threads), where, WORKERS, SILENCE)}
            worker = OneOfSeveral(engine, Recipe(**json.loads(recipe)), exchanges)
            reply({"environment": engine.environment()})
            actions = {f"steps-{shards}": partial(worker.steps_of, shards) for shards in exchanges}
            crew = Crew(next(iter(exchanges.values())), NoSignal())
            serve({**actions, "agreements": partial(worker.agreements, crew), "comparisons": partial(worker.comparisons, crew)}, reply)


if __name__ == "__main__":
    main()
