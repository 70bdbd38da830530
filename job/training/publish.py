"""The results of a finished run: predictions, metrics, figures, event file, report, and the summary that will commit them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from job.analysis.diagnosis import findings
from job.analysis.efficiency import efficiency, wall_seconds
from job.analysis.report import write_report
from job.core import metrics
from job.core.architecture import Architecture
from job.core.identity_records import Claim, ContributionRecord, Environment
from job.core.recipe import Recipe
from job.core.records import FORMAT, ExtraTests, FileEntry, MetricsLine, PlatformSpeed, RunRecord, Seconds, Summary
from job.core.resource_records import AttemptRow, ResourceFacts, ResourceRow
from job.core.thinning import ThinnedRows
from job.core.throughput import Steps, steps_by_platform
from job.data.dataset import Dataset
from job.figures.resources import draw_resources
from job.figures.run import draw_all
from job.figures.tensorboard import write_events
from job.runs.checkpoint import CheckpointName
from job.runs.resource_log import resources_of
from job.runs.results import Attempt, Results, attempts_of
from job.runs.run import Run
from job.storage.errors import StoreError
from job.storage.files import local_errors, sha256
from job.telemetry.host import peak_memory
from job.telemetry.sampler import scalars
from job.training.progress import to_jsonl


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training has come to.  N test images, C classes."""

    run: Run
    record: RunRecord
    claim: Claim
    environment: Environment
    nondeterministic: list[str]
    """operations without a deterministic kernel that this attempt used"""
    contributions: list[ContributionRecord]
    """which attempts took the steps, this one last"""
    recipe: Recipe
    architecture: Architecture
    data: Dataset
    model: CheckpointName
    """holds the final weights"""
    logits: NDArray[np.float32]
    """(N, C) of these weights on the test set"""
    lines: list[MetricsLine]
    steps: int
    time: Seconds
    """seconds by purpose, over all attempts (`TimeLedger.totals`)"""
    wall_seconds: float
    """of this attempt's process"""
    upload_seconds: float | None
    """that storing a checkpoint took"""
    resources: ResourceFacts
    """peaks and averages of this attempt (`Sampler.stop`)"""
    rows: Sequence[ResourceRow]
    """resource samples of this attempt"""
    newest: CheckpointName


def publish(outcome: Outcome, folder: Path) -> Summary:
    """Write all results to the folder; returns the summary, which lists them with their digests.  Raises StoreError for the local disk."""
    rows = _rows_of_all_attempts(outcome)
    summary = _summary(outcome, rows)
    with local_errors(folder):
        _write_results(outcome, folder, rows)
        write_report([_as_results(outcome, summary, folder, rows)], folder / "report.html")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests: dict[str, FileEntry] = {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)} for path in files
        }
    return {**summary, "final": digests}


def _rows_of_all_attempts(outcome: Outcome) -> list[AttemptRow]:
    """Those of earlier attempts from the store, if it answers."""
    own, rows = outcome.run.attempt, ThinnedRows[AttemptRow]()
    with suppress(StoreError):
        rows = resources_of(outcome.run, but_for=own)
    for row in outcome.rows:
        rows.add({**row, "attempt": own})
    return [*rows]


def _summary(outcome: Outcome, rows: list[AttemptRow]) -> Summary:
    """All but what is in `final`."""
    test, recipe, logits = outcome.data.test, outcome.recipe, outcome.logits
    hits = int((logits.argmax(1) == test.labels).sum())
    epochs = [line for line in outcome.lines if line["kind"] == "epoch"]
    chosen = next(line for line in reversed(epochs) if line["step"] <= outcome.model.step)
    platforms = steps_by_platform(outcome.lines, outcome.contributions)
    speeds: list[PlatformSpeed] = [
        {"engine": engine, "device": device, "images_per_second": steps.typical or 0.0} for (engine, device), steps in platforms.items()
    ]
    latest = platforms[[*platforms][-1]]
    checkpoint = None
    if outcome.upload_seconds is not None and epochs:
        checkpoint = {"store_seconds": outcome.upload_seconds, "interval_seconds": outcome.time["step"] / len(epochs)}
    extra = ExtraTests()
    if (accuracy := chosen.get("validation_accuracy")) is not None:
        extra["validation_accuracy"] = accuracy
    if recipe.truncated_test:
        seen = len(test) // recipe.batch_size * recipe.batch_size
        accuracy = metrics.accuracy(logits[:seen], test.labels[:seen]) if seen else None
        extra["truncated_test"] = {"images": seen, "test_accuracy": accuracy}
    return {
        "format": FORMAT,
        "run": outcome.run.id,
        **outcome.environment,
        "recipe": recipe.name,
        "precision": recipe.precision,
        "parameters": outcome.architecture.parameters,
        "seed": outcome.record["seed"],
        "data": outcome.record["data"],
        "epochs": len(epochs),
        "steps": outcome.steps,
        "model": f"checkpoints/{outcome.model}/model.safetensors",
        "model_epoch": chosen["epoch"],
        "train_accuracy": chosen["train_accuracy"],
        "test_accuracy": hits / len(test),
        "test_top5_accuracy": metrics.top5_accuracy(logits, test.labels),
        "test_accuracy_interval_95": metrics.wilson(hits, len(test)),
        "test_images": len(test),
        "test_loss": metrics.cross_entropy(logits, test.labels),
        "images_per_second": speeds[-1]["images_per_second"],
        "speeds": speeds,
        "peak_host_memory_bytes": peak_memory(),
        **efficiency(
            totals=outcome.time,
            wall_seconds=wall_seconds(rows, outcome.run.attempt, outcome.wall_seconds),
            steps=latest,
            lines=outcome.lines,
            flop=_mean_flop(recipe, latest),
            resources=outcome.resources,
        ),
        "findings": findings(time=outcome.time, rows=rows, checkpoint=checkpoint, epochs=epochs, tested=chosen["epoch"]),
        "nondeterministic": outcome.nondeterministic,
        "contributions": outcome.contributions,
        "attempt": outcome.run.attempt,
        "final": {},
        **extra,
    }


def _mean_flop(recipe: Recipe, steps: Steps) -> float:
    """Floating-point operations for one image, over steps at several image sizes."""
    sizes, counts = np.unique(steps.sizes, return_counts=True)
    return float(np.average([recipe.architecture(image_size=size).flop for size in sizes.tolist()], weights=counts))


def _write_results(outcome: Outcome, folder: Path, rows: list[AttemptRow]) -> None:
    test, lines, logits = outcome.data.test, outcome.lines, outcome.logits
    np.savez_compressed(folder / "predictions.npz", logits=logits, labels=test.labels, predictions=logits.argmax(1).astype(np.uint8))
    (folder / "metrics.jsonl").write_text(to_jsonl(lines))
    write_events(folder / "tensorboard", lines, scalars(rows))
    draw_all(
        folder / "plots",
        lines=lines,
        labels=test.labels,
        logits=logits,
        images=test.images,
        classes=outcome.data.classes,
        title=outcome.run.id,
    )
    draw_resources(rows, folder / "plots" / "resources.png", title=outcome.run.id)


def _as_results(outcome: Outcome, summary: Summary, folder: Path, rows: list[AttemptRow]) -> Results:
    """The run as its readers will see it."""
    run = outcome.run
    attempts = [Attempt(name=run.attempt, claim=outcome.claim, end={"exit_code": 0, "reason": "finished"})]
    checkpoints = [outcome.newest]
    with suppress(StoreError):  # a store that is away must not keep the page from being written
        attempts = [*(a for a in attempts_of(run) if a.name != run.attempt), *attempts]
        checkpoints = sorted({*run.checkpoint_names(), outcome.newest}, reverse=True)
    return Results(
        id=run.id,
        url=f"{run.store.url}/{run.id}",
        record=outcome.record,
        summary=summary,
        lines=outcome.lines,
        logits=outcome.logits,
        labels=outcome.data.test.labels,
        attempts=attempts,
        checkpoints=[str(name) for name in checkpoints],
        resources=rows,
        plots={path.stem: path.read_bytes() for path in sorted((folder / "plots").glob("*.png"))},
    )
