"""From what was asked for to an attempt at work: the run, the engine, the images, and then the loop."""

import secrets
import time
from pathlib import Path

import psutil

from job.analysis.efficiency import closing_lines, speed_text
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.records import Summary
from job.core.time_ledger import TimeLedger
from job.data import dataset, sources
from job.data.dataset import Dataset
from job.engines import Engine, find_engine, translated
from job.runs.leftovers import SpoolFolders
from job.runs.pretrained import fetch_weights
from job.runs.run import Run
from job.storage.opening import open_store
from job.training import identity
from job.training.agreement import check_engine, check_finished, settle
from job.training.assignment import Assignment, meet, work_along
from job.training.attempt import Attempt
from job.training.checkpointer import Checkpointer
from job.training.display import Display, Say
from job.training.exporter import exported
from job.training.initial_state import InitialState
from job.training.loop import Training
from job.training.options import Options
from job.training.progress import Progress, Workload
from job.training.stopping import StopSignal
from job.training.waiting import announced
from job.training.watchdog import PATIENT, Limits, Pace, Watchdog
from job.workers.crew import Leader
from job.workers.network import SharedNetwork


def train(recipe: Recipe, options: Options, stop: StopSignal, display: Display) -> Exit:
    """Begin the run, or go on with it.  Raises JobError, and Stopped where a signal came before the run was claimed."""
    run = Run(open_store(options.output), options.run_id if options.run_id is not None else new_id(recipe, options.engine))
    with announced(f"asking {run.store.url} for the run {run.id}", display.say):
        summary, stored = run.summary(), run.record()
    if summary is not None:
        note = ""
        if stored is not None:
            initial = initial_state(recipe, len(stored["data"]["classes"]), options, display)
            note = check_finished(run, stored, summary, recipe, options, initial)
            with SpoolFolders(run, stored, options.spool).leftovers() as leftovers:
                leftovers.clear(run_finished=True)
        display.say(
            f"run {run.id} is finished: test accuracy {summary['test_accuracy']:.2%}; nothing to do{note}. Results: {run.url}",
            event="finished",
        )
        return Exit.DONE
    if stored is not None:
        check_engine(run, options.engine, allowed=options.continue_in_other_engine)
    data = load(options, display)
    initial = initial_state(recipe, len(data.classes), options, display)
    Workload.of(recipe, data.train.labels, options.seed)  # what cannot work is told before a framework is loaded
    if options.place.leads and (stored is None or initial.at_hand):
        initial.fetch()
    with announced(f"loading {options.engine}", display.say):
        engine = find_engine(options.engine, device=options.device, gpu=options.place.local_rank)
    device = engine.environment()["device"]
    note = " (no GPU in use; --device cuda insists on one)" if device == "cpu" and options.device == "auto" else ""
    display.say(f"run {run.id}: {engine.name} on {device}{note}, recipe {recipe.name}, data {data.name}, results in {run.url}")
    return attempt(run, engine, recipe, data, options, initial=initial, stop=stop, display=display)


def initial_state(recipe: Recipe, classes: int, options: Options, display: Display) -> InitialState:
    """What the run begins with; `--init-from` is fetched when it is needed."""

    def fetch(source: str) -> Path:
        return fetch_weights(source, options.cache, display.show_download)

    return InitialState(recipe, recipe.architecture(classes), options.seed, options.init_from, fetch)


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
    initial: InitialState,
    stop: StopSignal,
    display: Display,
    limits: Limits = PATIENT,
) -> Exit:
    """Work on the run, as one of its workers, from its record to the end.  `engine` is not started yet.  Raises as `Training.run`."""
    ledger = TimeLedger(before=time.time() - psutil.Process().create_time())
    workload = Workload.of(recipe, data.train.labels, options.seed)
    who = identity.claim(engine.environment(), started=run.store.now(), gpu=options.place.local_rank)
    record = refusal = None
    busy = f"starting {engine.name}" if options.place.alone else f"waiting for the other workers at {options.place.addresses[0]}"
    with ledger.spend("start-up"), announced(busy, display.say):
        try:
            record = settle(run, engine, recipe, data, initial, options, display.say)
        except JobError as error:
            refusal = error
        crew, claims = meet(engine, record, refusal, who, options, stop)
    assert record is not None
    recipe = recipe.with_values({"precision": record["recipe"]["precision"]})
    job = Assignment(
        run=run,
        record=record,
        engine=engine,
        recipe=recipe,
        data=data,
        workload=workload,
        options=options,
        crew=crew,
        claims=claims,
    )
    if not options.place.leads:
        return work_along(job, stop, display.say)
    with Leader(crew) as leader:
        leader.exit_code = lead(job, leader, ledger, initial=initial, stop=stop, display=display, limits=limits)
        return leader.exit_code


def lead(
    job: Assignment, leader: Leader, ledger: TimeLedger, *, initial: InitialState, stop: StopSignal, display: Display, limits: Limits
) -> Exit:
    """What worker 0 does, or the only one: claim the run, train, and store.  Raises JobError, as `Training.run`."""
    run, engine, recipe, data, options = job.run, job.engine, job.recipe, job.data, job.options
    progress = Progress(job.workload)
    with ledger.spend("start-up"):
        at_work = Attempt(run, job.record, job.claim(), progress=progress, options=options, stop=stop, say=display.say)
    display.follow(run, progress)
    pace = Pace(limits)
    with exported(at_work, progress, options.metrics_port, display.say), at_work, Watchdog(at_work, pace, limits), translated(engine):
        with ledger.spend("start-up"), announced("putting the network and the images on the device", display.say):
            leader.name_attempt(run.attempt)
            network = job.network()
            if not options.place.alone:
                network = SharedNetwork(network, leader, job.hosts)
        training = Training(
            attempt=at_work,
            engine=engine,
            network=network,
            recipe=recipe,
            architecture=job.architecture,
            data=data,
            options=options,
            progress=progress,
            ledger=ledger,
            checkpointer=Checkpointer(
                at_work, network, recipe, job.architecture, ledger, initial, other_engine=options.continue_in_other_engine
            ),
            pace=pace,
            joules=lambda: job.crew.total_energy(at_work.sampler.energy_joules),
            show=display.show,
        )
        summary = training.run()
    if at_work.exit_code is Exit.DONE:
        announce(summary, run, display.say)
    return at_work.exit_code


def announce(summary: Summary, run: Run, say: Say) -> None:
    """The last lines of the log."""
    for line in closing_lines(summary):
        say(line)
    low, high = summary["test_accuracy_interval_95"]
    top5 = f"top-5 {summary['test_top5_accuracy']:.2%}, " if "test_top5_accuracy" in summary else ""  # not of an older version
    chosen = ""
    if "validation_accuracy" in summary:
        chosen = f", all after epoch {summary['model_epoch']}, chosen by the validation images ({summary['validation_accuracy']:.2%})"
    say(
        f"finished: test accuracy {summary['test_accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"{top5}on {summary['test_images']} images, training accuracy {summary['train_accuracy']:.2%}{chosen}; "
        f"{speed_text(summary)}, peak host memory {summary['peak_host_memory_bytes'] / 1e9:.2f} GB. "
        f"Results: {run.url}, the report: {run.url}/final/{summary['attempt']}/report.html",
        event="finished",
        test_accuracy=summary["test_accuracy"],
    )


def new_id(recipe: Recipe, engine: str) -> str:
    """`default-torch-20261125-101500-1f2e`: unique, and a folder's name."""
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in recipe.name).strip("-") or "run"
    return f"{name[:40]}-{engine}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
