"""Figures of several runs: accuracy, loss and throughput of each side, and how the sides differ from epoch to epoch."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from job.analysis.epochs import Curve, EpochDifferences, Value, epoch_differences
from job.core.throughput import Steps
from job.figures.style import FADED, SideStyle, house_style, new_figure, saved, series, side_style
from job.runs.results import Results

Sides = Mapping[str, Sequence[Results]]
"""label of a side → its runs, one for each seed"""
MARKED = 40
"""epochs above which markers would merge"""
BAND = "Line: mean. Band: lowest to highest seed. Points: seeds."


def draw(sides: Sides, folder: Path) -> list[Path]:
    """throughput.png and, for several runs, curves.png and losses.png; without those that would be empty."""
    figures = {"throughput": throughput_figure}
    if sum(map(len, sides.values())) > 1:  # a single run has figures of its own
        figures = {"curves": accuracy_figure, "losses": loss_figure, **figures}
    drawn = {name: figure for name, make in figures.items() if (figure := make(sides))}
    with house_style():
        for name, figure in drawn.items():
            saved(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in drawn]


@house_style()
def throughput_figure(sides: Sides) -> Figure | None:
    """Images per second in each logging interval of each run, and the median step of a side; None without intervals."""
    typical = {label: Steps.joined(Steps.of(run.lines) for run in runs).typical for label, runs in sides.items()}
    if not any(typical.values()):
        return None
    figure = new_figure(9.6, 4.2)
    axes = figure.add_subplot()
    _titles(
        axes, "Throughput: images per second in each logging interval", "Median: over all steps, so that short intervals count for less."
    )
    for number, (label, runs) in enumerate(sides.items()):
        for first, run in enumerate(runs):
            x, y = series((line["step"], line["images_per_second"]) for line in run.lines if line["kind"] == "interval")
            median = f"{label}, median {typical[label]:,.0f}" if typical[label] and not first else None
            axes.plot(x, y, color=side_style(number).colour, linestyle=_form(side_style(number)), linewidth=1.3, label=median)
    axes.set(xlabel="step", ylabel="images/s")
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _with_legend(figure)


@house_style()
def accuracy_figure(sides: Sides) -> Figure | None:
    """Test set and training; below, how the sides differ on the test set, if it is the same. None where no epoch was finished."""
    curves = _of_test(sides, lambda line: line["test_accuracy"])
    if curves is None:
        return None
    runs = [run for members in sides.values() for run in members]
    several = len(sides) > 1 and all(np.array_equal(run.labels, runs[0].labels) for run in runs)
    figure = new_figure(9.6, 8.4 if several else 5.0)
    grid = figure.add_gridspec(2 if several else 1, 2, height_ratios=[3, 2] if several else [1])
    test = figure.add_subplot(grid[0, 0])
    train = figure.add_subplot(grid[0, 1], sharey=test)
    _pair(sides, test, train, "accuracy", curves, lambda line: line["train_accuracy"], scale=100)
    top = 20 * ceil(max(test.dataLim.y1, train.dataLim.y1) / 20)
    test.set(ylabel="accuracy in %", ylim=(0, 1.03 * top), yticks=range(0, top + 1, 20))
    if several:
        _differences(figure.add_subplot(grid[1, :]), list(sides), curves, images=len(runs[0].labels))
    return _with_legend(figure)


@house_style()
def loss_figure(sides: Sides) -> Figure | None:
    """On the test set and in training; None where no epoch was finished."""
    curves = _of_test(sides, lambda line: line["test_loss"])
    if curves is None:
        return None
    figure = new_figure(9.6, 5.0)
    test, train = figure.subplots(1, 2, sharey=True)
    _pair(sides, test, train, "loss", curves, lambda line: line["train_loss"])
    test.set_ylabel("loss in nats per image")
    test.set_ylim(bottom=0)
    return _with_legend(figure)


def _of_test(sides: Sides, value: Value) -> list[Curve] | None:
    """One curve for each side; None where all are empty."""
    curves = [Curve.of(runs, value) for runs in sides.values()]
    return curves if any(curve.epochs.size for curve in curves) else None


def _pair(sides: Sides, test: Axes, train: Axes, what: str, of_test: Sequence[Curve], of_training: Value, scale: float = 1) -> None:
    """Both panels; `scale` makes what is drawn of what is stored."""
    band = BAND if any(len(runs) > 1 for runs in sides.values()) else ""
    _titles(test, f"Test {what} after each epoch", band, 62)
    _titles(train, f"Training {what}: not a result", band, 62)
    for number, (label, runs) in enumerate(sides.items()):
        _draw(test, of_test[number], number, label, scale)
        _draw(train, Curve.of(runs, of_training), number, None, scale)
    train.tick_params(labelleft=False)


def _draw(axes: Axes, curve: Curve, number: int, label: str | None, scale: float) -> None:
    """Mean, band and, after the last epoch, each seed."""
    if not curve.epochs.size:
        return
    style, seeds, values = side_style(number), len(curve.seeds), scale * curve.values
    text = None if label is None else f"{label} ({seeds} seeds)" if seeds > 1 else label
    _line(axes, curve.epochs, scale * curve.mean, style, number, text)
    if seeds > 1:
        inside, edge = f"{style.colour}2E", f"{style.colour}90"
        axes.fill_between(curve.epochs, values.min(axis=0), values.max(axis=0), facecolor=inside, edgecolor=edge, linewidth=0.7)
        beside = curve.epochs[-1] + 0.025 * (number + 1) * max(curve.epochs[-1], 4)
        axes.plot([beside] * seeds, values[:, -1], style.marker, color=style.colour, markersize=3.5, fillstyle="none")
    _epochs(axes)


def _differences(axes: Axes, labels: Sequence[str], curves: Sequence[Curve], images: int) -> None:
    """Each side minus the first, with intervals, on a scale of their own."""
    first, *others = labels
    found = [epoch_differences(curves[0], other, images) for other in curves[1:]]
    whose = f"{others[0]} minus {first}" if len(others) == 1 else f"each side minus {first}"
    seeds = "Small points: the same seed in both. " if any(len(one.same_seed) > 1 for one in found) else ""
    reach, cut = _reach(found)
    note = f"{whose}, in points. Bars: {_source(found)}, each epoch for itself. {seeds}"
    _titles(axes, "Difference in test accuracy", note + ("Bars that leave the frame go on." if cut else ""))
    axes.axhline(0, color="#666666", linewidth=1)
    for number, one in enumerate(found, 1):
        style = side_style(number)
        bars = 100 * np.nan_to_num([one.difference - one.low, one.high - one.difference])
        beside = 0.013 * max(5, *one.epochs)
        shifted = one.epochs + beside * (number - (len(found) + 1) / 2)
        axes.errorbar(shifted, 100 * one.difference, bars, color=style.colour, fmt=style.marker, markersize=6, elinewidth=1.5, capsize=3)
        if len(one.same_seed) > 1:
            each = np.broadcast_to(shifted + 0.8 * beside, one.same_seed.shape)
            axes.plot(each, 100 * one.same_seed, ".", color=style.colour, markersize=4, fillstyle="none")
    axes.set(ylabel="points", ylim=(-reach, reach))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0")
    _epochs(axes)


def _source(found: Sequence[EpochDifferences]) -> str:
    seeds, images = "95 % over the seeds, on these images (Welch's t)", "95 % over the images, unpaired: a paired test sees more"
    kinds = {one.over_seeds for one in found}
    return seeds if kinds == {True} else images if kinds == {False} else f"{seeds} where there are several, else {images}"


def _reach(found: Sequence[EpochDifferences]) -> tuple[float, bool]:
    """Half the height of the panel in points: what the second half of the epochs needs; and whether an earlier bar is cut off by it."""
    bounds = [100 * np.nanmax(np.abs([one.difference, one.low, one.high]), axis=0) for one in found if one.epochs.size]
    late = max((bound[len(bound) // 2 :].max() for bound in bounds), default=1.0)
    reach = max(1.15 * float(late), 0.1)
    return reach, any(bool((bound > reach).any()) for bound in bounds)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, style: SideStyle, number: int, label: str | None) -> None:
    """Sides lie on each other where they agree: the first is drawn wide, the next ones narrower and dashed, their markers hollow."""
    shown = style.marker if len(x) <= MARKED else ""
    width, size = (2.6, 5) if not number else (1.6, 7)
    fill_style = "none" if number else "full"
    axes.plot(
        x, y, color=style.colour, linestyle=_form(style), linewidth=width, marker=shown, markersize=size, fillstyle=fill_style, label=label
    )


def _form(style: SideStyle) -> str | tuple[float, tuple[float, ...]]:
    return (0, style.dash) if style.dash else "-"


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _titles(axes: Axes, what: str, note: str, width: int = 128) -> None:
    """What is shown in bold, and below it, smaller, how, in lines of `width` characters."""
    text = fill(note, width)
    axes.annotate(text, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=FADED)
    axes.set_title(what, fontweight="bold", pad=10 + 12 * (text.count("\n") + 1))


def _with_legend(figure: Figure) -> Figure:
    figure.legend(loc="outside lower left", frameon=False, ncols=2, labelcolor=FADED, handlelength=4)
    return figure
