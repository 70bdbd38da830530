"""Curves of several runs in one figure each: accuracy and loss against epochs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from job.io.plots import FADED, house_style, new_figure, saved, series
from job.io.results import Results

# Okabe & Ito, as in job.io.plots
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw_curves(runs: Sequence[Results], folder: Path) -> list[Path]:
    """curves.png (test solid, training dotted) and losses.png."""
    return [
        _curves(runs, folder / "curves.png", "accuracy", 100.0, "accuracy in %", (0, 100)),
        _curves(runs, folder / "losses.png", "loss", 1.0, "loss in nats per image", None),
    ]


@house_style()
def _curves(runs: Sequence[Results], path: Path, what: str, scale: float, label: str, limits: tuple[float, float] | None) -> Path:
    figure = new_figure(9.6, 5.4)
    axes = figure.add_subplot()
    axes.set_title(f"{what.capitalize()} after each epoch: test solid, training dotted", fontweight="bold", pad=12)
    for number, run in enumerate(runs):
        _draw(axes, run, what, scale, COLOURS[number % len(COLOURS)])
    axes.set(xlabel="epoch", ylabel=label)
    axes.set_ylim(limits or (0, 1.04 * axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower left", frameon=False, ncols=2, labelcolor=FADED)
    saved(figure, path)
    return path


def _draw(axes: Axes, run: Results, what: str, scale: float, colour: str) -> None:
    epochs = [line for line in run.lines if line["kind"] == "epoch"]
    for part, form in (("test", "o-"), ("train", ":")):
        x, y = series(epochs, "epoch", f"{part}_{what}")
        axes.plot(x, scale * y, form, color=colour, markersize=4, label=f"{run.id} ({run.summary['engine']})" if part == "test" else None)
