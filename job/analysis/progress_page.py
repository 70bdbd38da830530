"""The page of runs that are not all finished: state and reason on top, how far each is, its curves up to the newest checkpoint."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from job.analysis.formatting import ago, duration, percent
from job.analysis.page import page
from job.analysis.pictures import picture
from job.analysis.report import write_report
from job.figures.run import accuracy_curves, loss_curves
from job.runs.results import read_results
from job.runs.snapshot import Observer, Snapshot

READERS = 16
"""runs that are read in parallel"""


def write_page(
    observers: Sequence[Observer], path: Path, *, anyway: bool = False, margin: float | None = None, refresh: int | None = None
) -> dict[str, bytes]:
    """The report of runs that are finished, else how far they are; returns the figures by file name.

    `refresh`: seconds after which a browser asks again for the page of runs that are not finished.  Raises JobError as `read_results`.
    """
    with ThreadPoolExecutor(READERS) as pool:
        runs = list(pool.map(Observer.snapshot, observers))
        if all(run.summary is not None for run in runs):
            return write_report(list(pool.map(read_results, [run.url for run in runs])), path, anyway=anyway, margin=margin)
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = [draw(run) for run in runs]
    path.write_text(progress(runs, figures, refresh=refresh), encoding="utf-8")
    prefix = "run-{}-" if len(runs) > 1 else ""
    return {f"{prefix.format(n)}{name}.png": data for n, own in enumerate(figures, 1) for name, data in own.items()}


def draw(run: Snapshot) -> dict[str, bytes]:
    """PNG files by name; none where no checkpoint is stored yet."""
    if not run.lines:
        return {}
    with TemporaryDirectory() as folder:
        accuracy, loss = Path(folder) / "accuracy.png", Path(folder) / "loss.png"
        if epochs := run.epoch_lines:
            accuracy_curves(epochs, accuracy, title=run.id)
        loss_curves(run.lines, loss, title=run.id)
        return {path.stem: path.read_bytes() for path in (accuracy, loss) if path.exists()}


def progress(runs: Sequence[Snapshot], figures: Sequence[dict[str, bytes]], *, refresh: int | None = None) -> str:
    return page(
        "progress.html",
        title=runs[0].id if len(runs) == 1 else f"{len(runs)} runs at work",
        refresh=refresh,
        runs=[_described(run, own) for run, own in zip(runs, figures, strict=True)],
    )


def _described(run: Snapshot, figures: dict[str, bytes]) -> dict[str, object]:
    sign = "" if run.age is None else f", last sign {ago(run.age)}"
    data = run.record["data"]
    return {
        "id": run.id,
        "state": run.state + sign,
        "well": run.state in ("running", "finished"),
        "words": [word for word in (run.reason if run.state != "finished" else None, run.advice) if word],
        "about": f"recipe {run.record['recipe']['name']}, seed {run.record['seed']}, on {data['name']}: "
        f"{data['train_images']:,} training images, {data['test_images']:,} test images",
        "share": run.step / run.steps if run.steps else 0.0,
        "tiles": _tiles(run),
        "plots": [picture(name, data) for name, data in figures.items()],
        "recipe": list(run.record["recipe"].items()),
    }


def _tiles(run: Snapshot) -> list[tuple[str, str]]:
    tiles, epochs = [("epochs", f"{run.epoch} of {run.epochs}")], run.epoch_lines
    if run.steps is not None:
        tiles.append(("steps", f"{run.step:,} of {run.steps:,}"))
    if run.seconds_left is not None:
        tiles.append(("left", duration(run.seconds_left)))
    if run.latest is not None:
        tiles.append(("images/s", f"{run.latest[1]:,.0f}"))
    if epochs:
        tiles.append((f"test accuracy after epoch {epochs[-1]['epoch']}", percent(epochs[-1]["test_accuracy"])))
    return tiles
