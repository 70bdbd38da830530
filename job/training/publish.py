"""The end of a run: predictions, figures, event file, report; then everything is flushed, and the summary commits it."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from job.analysis.diagnosis import findings
from job.analysis.efficiency import efficiency, wall_seconds
from job.analysis.report import write_report
from job.core import metrics
from job.core.exits import Exit
from job.core.records import Efficiency, ExtraTests, FileEntry, Finding, Outcome, Summary
from job.core.resource_records import AttemptRow, ResourceFacts
from job.figures.resources import draw_resources
from job.figures.run import draw_all
from job.figures.tensorboard import write_events
from job.runs.results import Attempt, Results, attempts_of, resources_of
from job.runs.tensorfile import read_tensors
from job.storage.errors import StoreError
from job.storage.files import local_errors, sha256
from job.telemetry.sampler import scalars
from job.training.progress import jsonl, peak_memory
from job.training.stopping import Stopped

if TYPE_CHECKING:
    from job.training.loop import Training

PAUSE = 1.0
"""seconds between two tries to put the summary"""


def finish(training: "Training") -> Summary:
    """Returns the summary, once it is stored.  Raises StoreError (74) naming what could not be stored in time."""
    model, logits = training.newest, training.test_logits
    if training.progress.best:
        model, logits = training.progress.best, None
        load_best(training, model)
    if logits is None:
        logits = training.evaluate("test", np.arange(len(training.data.test)))
    resources = training.sampler.stop()
    rows = samples(training)
    summary: Summary = {
        **figures(training, f"checkpoints/{model}/model.safetensors", logits),
        **accounts(training, resources, rows),
        "findings": remarks(training, rows),
        "attempt": training.run.attempt,
        "final": {},
    }
    folder = training.spool.path("final", training.run.attempt, "predictions.npz").parent
    with local_errors(folder):
        write_results(training, folder, logits, rows)
        draw_resources(rows, folder / "plots" / "resources.png", title=training.run.id)
        write_report([as_results(training, summary, folder, logits, rows)], folder / "report.html")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests: dict[str, FileEntry] = {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)} for path in files
        }
    summary["final"] = digests
    training.spool.add(*files)
    training.summary = summary
    commit(training, summary)
    return summary


def load_best(training: "Training", name: str) -> None:
    """The weights that were best on the validation set, from here or from the store."""
    local = training.work / "best.safetensors"
    if not name.endswith(training.run.attempt):
        local = training.run.fetch_checkpoint(name, training.work / "best").folder / "model.safetensors"
    training.engine.load(read_tensors(local, training.architecture.parameter_shapes), ())


def figures(training: "Training", model: str, logits: NDArray[np.float32]) -> Outcome:
    progress, test, recipe = training.progress, training.data.test, training.recipe
    hits = int((logits.argmax(1) == test.labels).sum())
    extra = ExtraTests()
    if recipe.truncated_test:
        kept = len(test) // recipe.batch_size * recipe.batch_size
        accuracy = metrics.accuracy(logits[:kept], test.labels[:kept]) if kept else None
        extra["truncated_test"] = {"images": kept, "test_accuracy": accuracy}
    return {
        "format": 1,
        "run": training.run.id,
        **training.engine.environment(),
        "recipe": recipe.name,
        "precision": recipe.precision,
        "parameters": training.architecture.parameters,
        "seed": training.options.seed,
        "data": training.record["data"],
        "epochs": len(progress.epochs),
        "steps": progress.step,
        "model": model,
        "train_accuracy": progress.epochs[-1]["train_accuracy"],
        "test_accuracy": hits / len(test),
        "test_accuracy_interval_95": list(metrics.wilson(hits, len(test))),
        "test_images": len(test),
        "test_loss": metrics.cross_entropy(logits, test.labels),
        "images_per_second": progress.median_speed(),
        "peak_host_memory_bytes": peak_memory(),
        **extra,
    }


def samples(training: "Training") -> list[AttemptRow]:
    """Resource rows of all attempts: those of earlier ones from the store, if it answers, ours from the spool or the store."""
    rows: list[AttemptRow] = []
    with suppress(StoreError):
        rows = [row for row in resources_of(training.run) if row["attempt"] != training.run.attempt]
    return rows + [{**row, "attempt": training.run.attempt} for row in training.sampler.rows]


def accounts(training: "Training", resources: ResourceFacts, rows: list[AttemptRow]) -> Efficiency:
    """Where the time went, and what was used."""
    ledger, progress = training.ledger, training.progress
    return efficiency(
        totals=ledger.totals(),
        wall_seconds=wall_seconds(rows, training.run.attempt, ledger.wall_seconds),
        lines=progress.lines,
        macs=training.architecture.macs,
        resources=resources,
    )


def remarks(training: "Training", rows: list[AttemptRow]) -> list[Finding]:
    """What these figures say."""
    totals, epochs, checkpoint = training.ledger.totals(), len(training.progress.epochs), None
    if training.spool.upload_seconds is not None and epochs:
        checkpoint = {"store_seconds": training.spool.upload_seconds, "interval_seconds": totals["step"] / epochs}
    return findings(time=totals, rows=rows, checkpoint=checkpoint)


def write_results(training: "Training", folder: Path, logits: NDArray[np.float32], rows: list[AttemptRow]) -> None:
    test, lines = training.data.test, training.progress.lines
    np.savez_compressed(folder / "predictions.npz", logits=logits, labels=test.labels, predictions=logits.argmax(1).astype(np.uint8))
    (folder / "metrics.jsonl").write_text(jsonl(lines))
    write_events(folder / "tensorboard", lines, scalars(rows))
    draw_all(
        folder / "plots",
        lines=lines,
        labels=test.labels,
        logits=logits,
        images=test.images,
        classes=training.data.classes,
        title=training.run.id,
    )


def as_results(training: "Training", summary: Summary, folder: Path, logits: NDArray[np.float32], rows: list[AttemptRow]) -> Results:
    """The run as its readers will see it."""
    run = training.run
    attempts, names = [Attempt(name=run.attempt, claim=training.claim, end={"exit_code": 0, "reason": "finished"})], [training.newest]
    with suppress(StoreError):  # a store that is away must not keep the page from being written
        attempts = [*(a for a in attempts_of(run) if a.name != run.attempt), *attempts]
        names = sorted({*run.checkpoint_names(), *names}, reverse=True)
    return Results(
        id=run.id,
        url=f"{run.store.url}/{run.id}",
        record=training.record,
        summary=summary,
        lines=training.progress.lines,
        logits=logits,
        labels=training.data.test.labels,
        attempts=attempts,
        checkpoints=names,
        resources=rows,
        plots={path.stem: path.read_bytes() for path in sorted((folder / "plots").glob("*.png"))},
    )


def commit(training: "Training", summary: Summary) -> None:
    """Flush, then put the summary.  A signal shortens the time to what its grace period leaves."""
    timeout = training.options.flush_timeout
    end = time.monotonic() + timeout

    def limit() -> float:
        return min(end, training.stop.deadline())

    told = False
    flushed = training.spool.flush(limit)
    while flushed:
        try:
            if not training.run.store.conditional and not told:
                told = True
                training.say(
                    f"{training.run.store.url} ignores conditional puts: of two attempts that end at the same moment, the last summary "
                    "wins, each being whole"
                )
            return training.run.commit(summary)
        except StoreError as error:
            if not error.transient:
                raise
            if time.monotonic() + PAUSE > limit():
                break
            time.sleep(PAUSE)
    if training.stop() and training.has_stored_progress:
        training.summary = None
        raise Stopped
    allowed = f"the grace period of {training.stop.grace:.0f} s (--grace)" if training.stop() else f"{timeout:.0f} s (--flush-timeout)"
    raise StoreError(Exit.NOT_STORED, f"The store did not take all results within {allowed}.")
