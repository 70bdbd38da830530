"""The four figures of a finished run: accuracy, loss, confusion matrix, confident mistakes.

Each function saves a PNG and returns the `Figure`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from job.core.metrics import Labels, Logits, confusion, softmax
from job.core.records import EpochLine
from job.figures.style import FADED, INTERVALS, TEST, TEXT, TRAINING, VALIDATION, Lines, house_style, new_figure, saved, series

Part = Literal["train", "test", "validation"]
CURVES: dict[Part, tuple[str, str, str]] = {
    "train": ("training", TRAINING, "s-"),
    "test": ("test", TEST, "o-"),
    "validation": ("validation", VALIDATION, "^--"),
}
"""Part of the metrics → its short name, colour, marker and line."""
ACCURACY: dict[Part, Literal["train_accuracy", "test_accuracy", "validation_accuracy"]] = {
    "train": "train_accuracy",
    "test": "test_accuracy",
    "validation": "validation_accuracy",
}
LOSS: dict[Part, Literal["train_loss", "test_loss", "validation_loss"]] = {
    "train": "train_loss",
    "test": "test_loss",
    "validation": "validation_loss",
}
"""Part of the metrics → its field in the line of an epoch."""

MARKER_LIMIT = 40
"""Epochs above which markers would merge into a band."""


class End(NamedTuple):
    """The last point of a curve, in data coordinates, and what is written beside it."""

    x: float
    y: float
    text: str
    colour: str


@house_style()
def accuracy_curves(epochs: Sequence[EpochLine], path: Path, *, title: str) -> Figure:
    """Accuracy in % after each epoch: in training, on the test set and, where there is one, on the validation set."""
    names: dict[Part, str] = {
        "train": "training, as seen while training (dropout and augmentation on)",
        "test": "test set, whole",
        "validation": "validation images, held out of the training set",
    }
    figure, axes = _curves("Accuracy after each epoch", title)
    ends: list[End] = []
    for part, name in names.items():
        x, y = series((line["epoch"], line.get(ACCURACY[part])) for line in epochs)
        ends += _draw_curve(axes, part, x, 100 * y, name, "{:.1f} %")
    axes.set(ylim=(0, 100), ylabel="accuracy in %")
    axes.set_yticks(range(0, 101, 10))
    _finish_curves(axes, epochs, ends)
    return saved(figure, path)


@house_style()
def loss_curves(lines: Lines, path: Path, *, title: str) -> Figure:
    """Cross-entropy against epochs: the mean of each logging interval, of each epoch, and on the test and validation sets."""
    epochs = [line for line in lines if line["kind"] == "epoch"]
    intervals = [line for line in lines if line["kind"] == "interval"]
    names: dict[Part, str] = {
        "train": "training, mean of the epoch (with the recipe's label smoothing, dropout and augmentation)",
        "test": "test set, whole (without them)",
        "validation": "validation images, held out of the training set (without them)",
    }
    figure, axes = _curves("Loss (cross-entropy) during training", title)
    ends: list[End] = []
    x, y = series((line["step"], line["loss"]) for line in intervals)
    if x.size:
        # Steps become fractions of epochs as soon as one finished epoch tells how many steps it has.
        steps = epochs[0]["step"] / epochs[0]["epoch"] if epochs else 1
        axes.plot(x / steps, y, color=INTERVALS, linewidth=0.9, label="training, mean of each logging interval")
        axes.set_xlabel("epoch" if epochs else "step")
    for part, name in names.items():
        x, y = series((line["epoch"], line.get(LOSS[part])) for line in epochs)
        ends += _draw_curve(axes, part, x, y, name, "{:.3f}")
    axes.set(ylim=(0, 1.04 * axes.get_ylim()[1]), ylabel="loss in nats per image")
    _finish_curves(axes, epochs, ends)
    return saved(figure, path)


@house_style()
def confusion_matrix(matrix: NDArray[np.int64], classes: Sequence[str], path: Path, *, title: str) -> Figure:
    """The (K, K) counts of `core.metrics.confusion`, each with its share of the row, which also sets the colour."""
    assert matrix.shape == (len(classes), len(classes)), (matrix.shape, len(classes))
    totals = matrix.sum(axis=1, keepdims=True)
    shares = 100 * matrix / np.maximum(totals, 1)
    hits, total = int(np.trace(matrix)), int(matrix.sum())
    side = max(6.0, 0.72 * len(classes))
    figure = new_figure(side + 2, side + 1.9)
    axes = figure.add_subplot()
    right = f"{hits:,} of {total:,} images are right ({100 * hits / max(total, 1):.1f} %): the diagonal"
    _titles(axes, "Confusion matrix: which class is taken for which", f"{title}\n{right}")
    # Square root: 1 % and 5 % of a row look different, though the diagonal reaches 90.
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=100))
    for row, column in np.ndindex(*matrix.shape):
        count, share = int(matrix[row, column]), float(shares[row, column])
        colour = "#AAAAAA" if count == 0 else "white" if share > 35 else TEXT
        weight = "bold" if row == column else "normal"
        text = f"{count:,}\n{share:.1f} %" if count else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=9.5, color=colour, fontweight=weight)
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted class", ylabel="true class (100 % = its row)")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return saved(figure, path)


@house_style()
def confident_mistakes(
    images: NDArray[np.uint8], labels: Labels, logits: Logits, classes: Sequence[str], path: Path, *, title: str, count: int = 25
) -> Figure:
    """The `count` wrong predictions with the highest probability, highest first: image, true → predicted class, probability.

    `images` is (N, 32, 32, 3), `labels` (N,), `logits` (N, K)."""
    assert len(images) == len(labels) == len(logits), (len(images), len(labels), len(logits))
    predictions, sureness = logits.argmax(axis=1), softmax(logits).max(axis=1)
    wrong = np.flatnonzero(predictions != labels)
    shown = wrong[np.argsort(-sureness[wrong], kind="stable")][:count]
    columns = 5
    rows = -(-len(shown) // columns) or 1
    width, height, head = 8.2, 1.88 * rows + 1.1, 1.4
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # inches from the upper left; 25 axes would take a second
    axes.set_axis_off()
    axes.text(0.12, 0.15, "The most confident mistakes" if len(shown) else "No mistakes", va="top", fontsize="large", fontweight="bold")
    summary = f"{len(wrong):,} of {len(labels):,} predictions are wrong"
    if len(shown):
        summary += ". Captions: true class → predicted class, its probability"
    axes.text(0.12, 0.5, f"{title}\n{summary}", va="top", fontsize=10.5, color=FADED)
    pitch, side = width / columns, 1.4
    for place, index in enumerate(shown):
        row, column = divmod(place, columns)
        left, top = (column + 0.5) * pitch - side / 2, head + 1.88 * row
        axes.imshow(images[index], interpolation="bicubic", extent=(left, left + side, top + side, top), aspect="auto")
        names = f"{classes[int(labels[index])]} → {classes[int(predictions[index])]}"
        caption = f"{names}\n{_probability(float(sureness[index]))}"
        axes.text(left + side / 2, top - 0.05, caption, ha="center", va="bottom", fontsize=9.5)
    axes.set(xlim=(0, width), ylim=(height, 0))
    if not len(shown):
        axes.text(width / 2, height - 0.9, "Nothing to show: every prediction was right.", ha="center", va="center", fontsize=14)
    return saved(figure, path)


def draw_all(
    folder: Path, *, lines: Lines, labels: Labels, logits: Logits, images: NDArray[np.uint8], classes: Sequence[str], title: str
) -> list[Path]:
    """Draw all four figures of a run into `folder`, which is created, from its metrics lines and its test set predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    accuracy, loss, matrix, mistakes = (folder / f"{name}.png" for name in ("accuracy", "loss", "confusion", "mistakes"))
    accuracy_curves([line for line in lines if line["kind"] == "epoch"], accuracy, title=title)
    loss_curves(lines, loss, title=title)
    confusion_matrix(confusion(labels, logits.argmax(axis=1), len(classes)), classes, matrix, title=title)
    confident_mistakes(images, labels, logits, classes, mistakes, title=title)
    return [accuracy, loss, matrix, mistakes]


def _curves(what: str, title: str) -> tuple[Figure, Axes]:
    figure = new_figure(9.6, 6)
    axes = figure.add_subplot()
    _titles(axes, what, title)
    axes.set_xlabel("epoch")
    return figure, axes


def _titles(axes: Axes, what: str, title: str) -> None:
    """What is shown in bold, and below it, smaller, whose it is."""
    axes.annotate(title, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", fontsize=10.5, color=FADED)
    axes.set_title(what, fontweight="bold", pad=14 + 15 * (title.count("\n") + 1))


def _draw_curve(axes: Axes, part: Part, x: NDArray[np.float64], y: NDArray[np.float64], label: str, number: str) -> list[End]:
    """Draw one curve and return its end, written as `number` says; nothing for a curve without points."""
    if not x.size:
        return []
    name, colour, line = CURVES[part]
    form = line if len(x) <= MARKER_LIMIT else line[1:]
    axes.plot(x, y, form, color=colour, markersize=5, linewidth=1.8, label=label)
    return [End(float(x[-1]), float(y[-1]), f"{name} {number.format(y[-1])}", colour)]


def _finish_curves(axes: Axes, epochs: Sequence[EpochLine], ends: list[End]) -> None:
    """Legend below the axes, whole epochs on x, and the final values at the right."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if epochs:
        axes.set_xlim(0, 1.01 * max(line["epoch"] for line in epochs))
    bottom, top = axes.get_ylim()
    for end, height in _apart(ends, 0.05 * (top - bottom)):
        at, shift = (end.x, height), (8, 0)
        axes.annotate(end.text, at, shift, textcoords="offset points", va="center", color=end.colour, fontweight="bold", clip_on=False)
    if axes.lines:
        axes.figure.legend(loc="outside lower left", frameon=False)
    else:
        axes.text(0.5, 0.5, "No epoch was finished yet.", transform=axes.transAxes, ha="center", fontsize=14)


def _apart(ends: list[End], gap: float) -> list[tuple[End, float]]:
    """Heights for the texts, in the order of the values, at least `gap` apart and on average where the values are."""
    ordered = sorted(ends, key=lambda end: end.y)
    heights: list[float] = []
    for end in ordered:
        heights.append(max(end.y, heights[-1] + gap) if heights else end.y)
    excess = sum(height - end.y for height, end in zip(heights, ordered, strict=True)) / max(len(ends), 1)
    return [(end, height - excess) for height, end in zip(heights, ordered, strict=True)]


def _probability(share: float) -> str:
    """In %; a mistake is never 100 % certain, though rounding would say so."""
    text = f"{100 * share:.1f} %"
    return "> 99.9 %" if text == "100.0 %" else text
