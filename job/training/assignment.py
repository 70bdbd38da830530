"""What the workers of a run agree on before they work, and what those do that do not lead."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Architecture
from job.core.exits import Exit, JobError
from job.core.identity_records import Claim
from job.core.recipe import Recipe
from job.core.records import RunRecord
from job.core.sampling import permutation, plan
from job.core.schedule import learning_rate, rate_factors
from job.data.dataset import Dataset
from job.engines import Engine, Network, translated
from job.engines.exchange import Alone
from job.runs.run import Run
from job.telemetry.sampler import Sampler
from job.training import identity
from job.training.attempt import LOG_SECONDS
from job.training.display import Say
from job.training.options import Options
from job.training.progress import Workload
from job.training.stopping import StopSignal
from job.workers.crew import Crew
from job.workers.network import follow

ALIKE = ("engine", "device", "torch", "tensorflow", "keras", "cuda", "cudnn", "numpy", "version", "source", "image")
"""fields of a claim that decide the bytes, and are the same on all workers"""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What each worker of a run is given."""

    run: Run
    record: RunRecord
    engine: Engine
    """started"""
    recipe: Recipe
    """with the precision resolved"""
    data: Dataset
    workload: Workload
    options: Options
    crew: Crew
    claims: list[Claim]
    """of all workers, by rank"""

    @property
    def architecture(self) -> Architecture:
        return self.recipe.architecture(len(self.data.classes))

    @property
    def hosts(self) -> list[str]:
        return [claim["host"] for claim in self.claims]

    def claim(self) -> Claim:
        """Of worker 0, which names the others."""
        if self.options.place.alone:
            return self.claims[0]
        return {**self.claims[0], "workers": [identity.worker(rank, claim) for rank, claim in enumerate(self.claims)]}

    def network(self) -> Network:
        """On the device, with the images."""
        architecture = self.architecture
        network = self.engine.network(self.recipe, architecture, rate_factors(self.recipe, architecture), self.crew.exchange)
        network.place("train", self.data.train.images, self.data.train.labels)
        network.place("test", self.data.test.images, self.data.test.labels)
        return network


def meet(
    engine: Engine, record: RunRecord | None, refusal: JobError | None, who: Claim, options: Options, stop: StopSignal
) -> tuple[Crew, list[Claim]]:
    """Start the engine, together with the other workers where there are some; returns everybody's claims.

    `refusal`: why this worker will not work, where `record` is None.  Raises JobError: the refusal, 78 where this worker is of another
    kind than worker 0, 75 where another one refuses, differs or does not come."""
    place, threads, shards = options.place, record["threads"] if record else 1, record.get("shards", 1) if record else 1
    if place.alone:
        if refusal is not None:
            raise refusal
        engine.start(threads)
        return Crew(Alone(shards), stop), [who]
    crew = Crew(engine.meet(threads, place, max(shards, place.workers), options.worker_timeout), stop)
    claims = crew.introduce(who, refusal)
    crew.demand_alike([{name: claim.get(name) for name in ALIKE} for claim in claims])
    return crew, claims


def work_along(job: Assignment, stop: StopSignal, say: Say) -> Exit:
    """What another worker than 0 does.  Raises JobError (71, 75)."""
    stop.defer()
    place, host = job.options.place, job.hosts[job.options.place.rank]
    try:
        with ExitStack() as stack, translated(job.engine):

            def name(attempt: str) -> None:
                job.run.attempt = attempt
                stack.enter_context(sampled(job, say))

            network = job.network()
            return follow(network, job.crew, job.recipe.batch_size, job.hosts, name, taker(job, network))
    except JobError as error:
        if error.code is not Exit.WORKER_GONE:
            job.crew.exchange.leave_word(f"worker {place.rank} on {host} ended with {error.code:d}: {error}")
        raise
    except Exception as error:
        job.crew.exchange.leave_word(f"worker {place.rank} on {host} ended with an internal error: {type(error).__name__}: {error}")
        raise


def taker(job: Assignment, network: Network) -> Callable[[int], None]:
    """Takes the step of a number, from 1, on this worker's share of the batch."""
    recipe, architecture, workload, seed = job.recipe, job.architecture, job.workload, job.options.seed

    @lru_cache(1)
    def order_of(epoch: int) -> NDArray[np.int64]:
        return workload.train[permutation(seed, epoch, len(workload.train))]

    def take(number: int) -> None:
        epoch, within = divmod(number - 1, workload.steps_per_epoch)
        chosen = plan(recipe, architecture, seed, order_of(epoch), epoch=epoch, step=within)
        network.step(chosen, rate=learning_rate(recipe, number - 1, workload.steps), number=number)

    return take


@contextmanager
def sampled(job: Assignment, say: Say) -> Iterator[None]:
    """The resource log of this machine, where no worker with a smaller rank writes it."""
    rank, run = job.options.place.rank, job.run
    if job.options.place.local_rank or job.hosts[rank] in job.hosts[:rank]:
        yield
        return
    uploads, waiting = ThreadPoolExecutor(1), list[Future[None]]()

    def deliver(path: Path) -> None:
        waiting.append(uploads.submit(run.store.put, run.key("attempts", run.attempt, "workers", str(rank), path.name), path))

    with TemporaryDirectory(prefix="alexnet-") as folder:
        sampler = Sampler(Path(folder), deliver=deliver, say=say)
        job.crew.measure(lambda: sampler.energy_joules)
        sampler.start()
        try:
            yield
        finally:
            sampler.stop()
            wait(waiting, LOG_SECONDS)
