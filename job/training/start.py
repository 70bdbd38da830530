"""From what was asked for to an attempt at work: the run, the engine, the images, and then the loop."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil

from job.analysis.efficiency import closing_lines, speed_text
from job.core.exits import Exit
from job.core.recipe import Recipe
from job.core.records import FORMAT, RunRecord, Summary
from job.core.schedule import rate_factors
from job.core.time_ledger import TimeLedger
from job.data import dataset, sources
from job.data.dataset import Dataset
from job.engines import Engine, open_engine
from job.runs.leftovers import SpoolFolders
from job.runs.pretrained import fetch_weights
from job.runs.run import Run
from job.storage.opening import open_store
from job.telemetry.cgroup import usable_cpus
from job.training import identity
from job.training.attempt import Attempt
from job.training.checkpointer import Checkpointer
from job.training.loop import Training
from job.training.options import Options
from job.training.progress import Progress, Workload
from job.training.stopping import StopSignal
from job.training.waiting import announced


class Display(Protocol):
    """Where the words of a training go."""

    def say(self, line: str) -> None:
        """A line of the log."""

    def show(self, step: int, steps: int, loss: float, images_per_second: float, seconds_left: float) -> None:
        """Progress after a logging interval."""

    def show_download(self, received: int, total: int | None) -> None:
        """Bytes of a file on its way."""


def train(recipe: Recipe, options: Options, stop: StopSignal, display: Display) -> Exit:
    """Begin the run, or go on with it.  Raises JobError, and Stopped where a signal came before the run was claimed."""
    run = Run(open_store(options.output), options.run_id if options.run_id is not None else new_id(recipe, options.engine))
    with announced(f"asking {run.store.url} for the run {run.id}", display.say):
        summary, stored = run.summary(), run.record()
    if summary is not None:
        display.say(f"run {run.id} is finished: test accuracy {summary['test_accuracy']:.2%}; nothing to do. Results: {run.url}")
        if stored is not None:
            with SpoolFolders(run, stored, options.spool).leftovers() as leftovers:
                leftovers.clear(run_finished=True)
        return Exit.DONE
    data = load(options, display)
    init_from = fetch_weights(options.init_from, options.cache, display.show_download) if options.init_from else None
    Workload.of(recipe, data.train.labels, options.seed)  # what cannot work is told before a framework is loaded
    threads = stored["threads"] if stored else options.threads or usable_cpus()
    with announced(f"loading {options.engine}", display.say):
        engine = open_engine(options.engine, device=options.device, threads=threads)
    device = engine.environment()["device"]
    note = " (no GPU in use; --device cuda insists on one)" if device == "cpu" and options.device == "auto" else ""
    display.say(f"run {run.id}: {engine.name} on {device}{note}, recipe {recipe.name}, data {data.name}, results in {run.url}")
    if recipe.precision == "auto":  # a stored run goes on as it began
        precision = stored["recipe"]["precision"] if stored else engine.resolve("auto")
        recipe = recipe.with_values({"precision": precision})
    return attempt(run, engine, recipe, data, options, threads=threads, init_from=init_from, stop=stop, display=display)


def load(options: Options, display: Display) -> Dataset:
    """The images.  Raises JobError, as `job.data.sources.load`."""
    hint = ", which may have to be downloaded (`--data digits --recipe digits` needs nothing)" if options.data == "cifar10" else ""
    with announced(f"reading the data {options.data}{hint}", display.say):
        data = sources.load(options.data, cache=options.cache, mirror=options.mirror, progress=display.show_download)
    return dataset.subset(data, options.subset) if options.subset else data


def attempt(
    run: Run,
    engine: Engine,
    recipe: Recipe,
    data: Dataset,
    options: Options,
    *,
    threads: int,
    init_from: Path | None,
    stop: StopSignal,
    display: Display,
) -> Exit:
    """Work on the run, from the claim to the end.  Raises JobError, as `Training.run`."""
    architecture = recipe.architecture(len(data.classes))
    ledger = TimeLedger(before=time.time() - psutil.Process().create_time())
    progress = Progress(Workload.of(recipe, data.train.labels, options.seed))
    record: RunRecord = {
        "format": FORMAT,
        "threads": threads,
        "recipe": recipe.as_dict(),
        "seed": options.seed,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "train_images": len(data.train),
            "test_images": len(data.test),
        },
    }
    who = identity.claim(engine.environment(), started=run.store.now())
    with ledger.spend("start-up"):
        at_work = Attempt(run, record, who, progress=progress, options=options, stop=stop, say=display.say)
    with at_work:
        with ledger.spend("start-up"), announced("putting the network and the images on the device", display.say):
            network = engine.network(recipe, architecture, rate_factors(recipe, architecture))
            network.place("train", data.train.images, data.train.labels)
            network.place("test", data.test.images, data.test.labels)
        training = Training(
            attempt=at_work,
            environment=engine.environment(),
            network=network,
            recipe=recipe,
            architecture=architecture,
            data=data,
            options=options,
            progress=progress,
            ledger=ledger,
            checkpointer=Checkpointer(at_work, network, recipe, architecture, ledger, init_from),
            show=display.show,
        )
        summary = training.run()
    if at_work.exit_code is Exit.DONE:
        announce(summary, run, display.say)
    return at_work.exit_code


def announce(summary: Summary, run: Run, say: Callable[[str], None]) -> None:
    """The last lines of the log."""
    for line in closing_lines(summary):
        say(line)
    low, high = summary["test_accuracy_interval_95"]
    chosen = ""
    if "validation_accuracy" in summary:
        chosen = f", all after epoch {summary['model_epoch']}, the best on the validation images ({summary['validation_accuracy']:.2%})"
    say(
        f"finished: test accuracy {summary['test_accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}) "
        f"on {summary['test_images']} images, training accuracy {summary['train_accuracy']:.2%}{chosen}; "
        f"{speed_text(summary)}, peak host memory {summary['peak_host_memory_bytes'] / 1e9:.2f} GB. "
        f"Results: {run.url}, the report: {run.url}/final/{summary['attempt']}/report.html"
    )


def new_id(recipe: Recipe, engine: str) -> str:
    """`default-torch-20261125-101500-1f2e`: unique, and a folder's name."""
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in recipe.name).strip("-") or "run"
    return f"{name[:40]}-{engine}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
