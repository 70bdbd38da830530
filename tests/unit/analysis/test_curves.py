"""Figures of sides: what stands in them, read back from the figures themselves."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image
from scipy import stats

from job.analysis.curves import accuracy_figure, draw, loss_figure, throughput_figure
from job.analysis.epochs import Curve, epoch_differences
from job.figures.style import SIDES
from job.runs.results import Results
from tests.support.made_up import results

TORCH = [[0.30, 0.80, 0.90], [0.50, 0.82, 0.91], [0.40, 0.81, 0.89]]
KERAS = [[0.32, 0.79, 0.90], [0.52, 0.82, 0.92], [0.37, 0.83, 0.905]]


def run(engine: str, accuracies: list[float], seed: int = 0, images: int = 1000) -> Results:
    lines: list[dict[str, Any]] = []
    for epoch, share in enumerate(accuracies, 1):
        for step, speed in ((45 * epoch - 5, 100.0), (45 * epoch, 500.0)):
            lines.append({"kind": "interval", "step": step, "images_per_second": speed})
        values = {"test_accuracy": share, "train_accuracy": share / 2, "test_loss": 2 - share, "train_loss": 2.2 - share}
        lines.append({"kind": "epoch", "epoch": epoch, "step": 45 * epoch, **values})
    return dataclasses.replace(results(f"{engine}-{seed}", engine, seed=seed, images=images), lines=lines)


def side(engine: str, table: list[list[float]]) -> list[Results]:
    return [run(engine, accuracies, seed) for seed, accuracies in enumerate(table)]


SEVERAL = {"torch": side("torch", TORCH), "tensorflow": side("tensorflow", KERAS)}
SINGLE = {"torch": SEVERAL["torch"][:1], "tensorflow": SEVERAL["tensorflow"][:1]}


def texts(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text) if text.get_visible())


def labelled(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def test_a_side_is_one_line_and_a_band():
    figure = accuracy_figure(SEVERAL)
    test, train, difference = figure.axes
    lines = labelled(test)
    assert list(lines) == ["torch (3 seeds)", "tensorflow (3 seeds)"]
    assert lines["torch (3 seeds)"].get_ydata() == pytest.approx(100 * np.mean(TORCH, axis=0))
    (low, high), other = (
        np.array([path.vertices[:, 1].min() for path in band.get_paths()] + [path.vertices[:, 1].max() for path in band.get_paths()])
        for band in test.collections
    )
    assert (low, high) == pytest.approx((30, 91))
    assert tuple(other) == pytest.approx((32, 92))
    points = [line for line in test.lines if line.get_linestyle() == "None"]
    assert [sorted(line.get_ydata()) for line in points] == [
        pytest.approx(sorted(100 * row[-1] for row in table)) for table in (TORCH, KERAS)
    ]
    assert "Band: lowest to highest seed" in texts(figure)
    assert "Training accuracy: not a result" in texts(figure)
    assert train.get_ylim() == test.get_ylim() == (0, 103)
    assert accuracy_figure({"torch": side("torch", [[0.1, 0.41]])}).axes[0].get_ylim() == pytest.approx((0, 61.8))
    assert difference.get_ylim()[1] < 15


def test_sides_look_different_in_colour_dash_and_marker():
    lines = labelled(accuracy_figure(SINGLE).axes[0]).values()
    assert [to_hex(line.get_color()).upper() for line in lines] == [style.colour for style in SIDES[:2]]
    assert len({line.get_linestyle() for line in lines}) == len({line.get_marker() for line in lines}) == 2


def test_a_single_seed_is_a_line_only():
    figure = accuracy_figure(SINGLE)
    assert not figure.axes[0].collections
    assert list(labelled(figure.axes[0])) == ["torch", "tensorflow"]
    assert "Band" not in texts(figure)
    assert "95 % over the images, unpaired" in texts(figure)


def test_curves_that_lie_on_each_other_are_both_seen(tmp_path):
    """The colours of both are on the picture, though every value is the same."""
    draw({"torch": SINGLE["torch"], "tensorflow": [run("tensorflow", TORCH[0])]}, tmp_path)
    with Image.open(tmp_path / "curves.png") as image:
        pixels = np.asarray(image.convert("RGB"))[60:400, 70:500]  # the panel of the test set
    for style in SIDES[:2]:
        colour = [int(style.colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (np.abs(pixels - np.array(colour)).max(axis=2) < 12).sum() > 150


def test_the_difference_has_its_own_scale_and_direction():
    figure = accuracy_figure(SEVERAL)
    axes = figure.axes[2]
    assert "tensorflow minus torch, in points" in texts(figure)
    assert "over the seeds, on these images (Welch's t)" in texts(figure)
    (bars,) = axes.containers
    assert bars.lines[0].get_ydata() == pytest.approx(100 * (np.mean(KERAS, axis=0) - np.mean(TORCH, axis=0)))
    assert axes.get_ylabel() == "points"
    assert "Bars that leave the frame go on." in texts(figure)  # the first epoch's is 30 points long
    assert "each side minus torch" in texts(accuracy_figure({**SEVERAL, "third": side("torch", TORCH)}))


def test_no_difference_is_drawn_between_different_tests():
    assert len(accuracy_figure({"torch": SINGLE["torch"], "tensorflow": [run("tensorflow", KERAS[0], images=500)]}).axes) == 2


def test_empty_panels_are_left_out(tmp_path):
    bare = dataclasses.replace(SINGLE["torch"][0], lines=[])
    sides = {"torch": [bare], "tensorflow": [bare]}
    assert accuracy_figure(sides) is loss_figure(sides) is throughput_figure(sides) is None
    assert draw(sides, tmp_path) == []
    assert [path.name for path in draw(SINGLE, tmp_path)] == ["curves.png", "losses.png", "throughput.png"]
    assert [path.name for path in draw({"torch": SINGLE["torch"]}, tmp_path)] == ["throughput.png"]


def test_the_median_speed_is_that_of_the_median_step():
    assert "torch, median 100" in texts(throughput_figure(SEVERAL))  # of the intervals it would be 300


def test_runs_of_unequal_length_share_the_epochs_that_all_have():
    curve = Curve.of([run("torch", TORCH[0]), run("torch", [*TORCH[1], 0.93], 1)], lambda line: line["test_accuracy"])
    assert curve.epochs.tolist() == [1, 2, 3]
    assert curve.values.tolist() == TORCH[:2]


def curves(*tables: list[list[float]]) -> list[Curve]:
    return [Curve.of(side("torch", table), lambda line: line["test_accuracy"]) for table in tables]


def test_epoch_by_epoch_over_seeds_by_welch():
    found = epoch_differences(*curves(TORCH, KERAS), images=1000)
    expected = stats.ttest_ind(np.array(KERAS), np.array(TORCH), equal_var=False).confidence_interval()
    assert found.over_seeds
    assert (*found.low, *found.high) == pytest.approx((*expected.low, *expected.high))
    assert found.same_seed == pytest.approx(np.array(KERAS) - np.array(TORCH))


def test_seeds_that_agree_to_the_digit_give_no_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = epoch_differences(*curves([[0.5, 0.90], [0.5, 0.91]], [[0.5, 0.90], [0.5, 0.92]]), images=100)
    assert np.isnan(found.low[0])
    assert np.isnan(found.high[0])
    assert found.low[1] < 0.005 < found.high[1]


def test_epoch_by_epoch_with_one_seed_by_the_images():
    assert newcombe(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=5e-5)  # Newcombe 1998, table II, method 10, example (a)
    first, second = curves([[48 / 80]], [[56 / 80]])
    found = epoch_differences(first, second, images=80)
    assert not found.over_seeds
    assert found.difference == pytest.approx(0.1)
    assert (found.low[0], found.high[0]) == pytest.approx(newcombe(48, 80, 56, 80), abs=1e-7)


def newcombe(hits1: int, n1: int, hits2: int, n2: int) -> tuple[float, float]:
    """By SciPy's Wilson intervals."""
    first, second = (stats.binomtest(h, n).proportion_ci(method="wilson") for h, n in ((hits1, n1), (hits2, n2)))
    p1, p2 = hits1 / n1, hits2 / n2
    return p2 - p1 - np.hypot(p2 - second.low, first.high - p1), p2 - p1 + np.hypot(second.high - p2, p1 - first.low)
