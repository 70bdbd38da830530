"""Curves of several runs in one figure each: accuracy, loss and throughput."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from job.core.records import EpochLine
from job.figures.style import FADED, PALETTE, house_style, new_figure, saved, series
from job.runs.results import Results

Value = Callable[[EpochLine], float]
"""of a line, as it is drawn"""
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
"""after six runs the colours come again, with another line"""


def draw_curves(runs: Sequence[Results], names: Sequence[str], folder: Path) -> list[Path]:
    """curves.png and losses.png: test and training side by side on one scale."""
    return [
        _side_by_side(
            runs,
            names,
            folder / "curves.png",
            what="accuracy",
            label="accuracy in %",
            test=lambda line: 100 * line["test_accuracy"],
            train=lambda line: 100 * line["train_accuracy"],
        ),
        _side_by_side(
            runs,
            names,
            folder / "losses.png",
            what="loss",
            label="loss in nats per image",
            test=lambda line: line["test_loss"],
            train=lambda line: line["train_loss"],
        ),
    ]


@house_style()
def draw_throughput(runs: Sequence[Results], names: Sequence[str], folder: Path) -> Path:
    """throughput.png: images per second in each logging interval, and the median."""
    figure = new_figure(9.6, 4.2)
    axes = figure.add_subplot()
    axes.set_title("Throughput: images per second in each logging interval", fontweight="bold", pad=12)
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        x, y = series((line["step"], line["images_per_second"]) for line in run.lines if line["kind"] == "interval")
        median = f", median {np.median(y):,.0f}" if len(y) else ""
        _plot(axes, x, y, number, f"{name}{median}", marker="")
    axes.set(xlabel="step", ylabel="images/s")
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finished(figure, folder / "throughput.png")


@house_style()
def _side_by_side(runs: Sequence[Results], names: Sequence[str], path: Path, *, what: str, label: str, test: Value, train: Value) -> Path:
    figure = new_figure(9.6, 5.0)
    parts = [(test, f"Test {what} after each epoch"), (train, f"Training {what}: not a result")]
    for axes, (value, title) in zip(figure.subplots(1, 2, sharey=True), parts, strict=True):
        axes.set_title(title, fontweight="bold", pad=12)
        for number, (run, name) in enumerate(zip(runs, names, strict=True)):
            x, y = series((line["epoch"], value(line)) for line in run.lines if line["kind"] == "epoch")
            _plot(axes, x, y, number, name if value is test else None)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.label_outer()
    figure.axes[0].set_ylabel(label)
    figure.axes[0].set_ylim(bottom=0)
    return _finished(figure, path)


def _plot(axes: Axes, x: np.ndarray, y: np.ndarray, number: int, label: str | None, marker: str = "o") -> None:
    colour, form = PALETTE[number % len(PALETTE)], LINES[number // len(PALETTE) % len(LINES)]
    shown = marker if len(x) <= 40 else ""
    axes.plot(x, y, color=colour, linestyle=form, linewidth=1.5, marker=shown, markersize=3.5, label=label)


def _finished(figure: Figure, path: Path) -> Path:
    figure.legend(loc="outside lower left", frameon=False, ncols=2, labelcolor=FADED)
    saved(figure, path)
    return path
