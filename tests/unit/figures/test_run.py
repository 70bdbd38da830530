"""The figures: what stands in them, that something is drawn, and that the bytes are reproducible."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from job.figures.run import accuracy_curves, confident_mistakes, confusion_matrix, draw_all, loss_curves

REPOSITORY = Path(__file__).parents[3]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TITLE = "torch, default, seed 1"
RANDOM = np.random.Generator(np.random.PCG64(3))
LABELS = (np.arange(200) % 10).astype(np.uint8)
LOGITS = (RANDOM.normal(size=(200, 10)) + 2 * np.eye(10)[LABELS]).astype(np.float32)
IMAGES = RANDOM.integers(0, 256, size=(200, 32, 32, 3), dtype=np.uint8)
PREDICTIONS = {"labels": LABELS, "logits": LOGITS, "images": IMAGES, "classes": CLASSES, "title": TITLE}


def epoch(number: int, **more: float) -> dict[str, object]:
    share = number / (number + 2)
    figures = {"train_loss": 2.3 - share, "train_accuracy": share, "test_loss": 2.2 - share, "test_accuracy": 0.9 * share}
    rest = {"learning_rate": 0.01, "seconds": 3.0, "images_per_second": 800.0}
    return {"kind": "epoch", "epoch": number, "step": 100 * number, **figures, **rest, **more}


def interval(step: int) -> dict[str, object]:
    return {"kind": "interval", "step": step, "epoch": step // 100 + 1, "loss": 2.3 - step / 1000, "accuracy": 0.3}


EPOCHS = [epoch(1), epoch(2), epoch(3)]
LINES = [*(interval(step) for step in range(50, 301, 50)), *EPOCHS]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def curves(figure: Figure) -> Iterator[tuple[str, list[float], list[float]]]:
    for line in figure.axes[0].lines:
        yield str(line.get_label()).split(",")[0], list(line.get_xdata()), list(line.get_ydata())


def assert_is_drawn(path: Path) -> None:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 500 <= image.width <= 1400
        assert 200 <= image.height <= 1400
        assert "Software" not in image.info
        pixels = np.asarray(image.convert("L"))
    assert 0.005 < (pixels < 200).mean() < 0.9, "blank, or covered"


def test_accuracy_in_percent_with_final_values_and_honest_names(tmp_path):
    figure = accuracy_curves(EPOCHS, tmp_path / "a.png", title=TITLE)
    found = texts(figure)
    for text in (
        "Accuracy after each epoch",
        TITLE,
        "training, as seen while training (dropout and augmentation on)",
        "test set, whole",
        "training 60.0 %",
        "test 54.0 %",
    ):
        assert text in found
    assert "validation" not in found
    expected = [("training", 100.0), ("test set", 90.0)]
    for (name, x, y), (expected_name, factor) in zip(curves(figure), expected, strict=True):
        assert name == expected_name
        assert x == [1, 2, 3]
        assert y == pytest.approx([factor / 3, factor / 2, factor * 3 / 5])
    assert_is_drawn(tmp_path / "a.png")


def test_validation_is_drawn_where_a_run_has_it(tmp_path):
    lines = [epoch(1, validation_accuracy=0.4, validation_loss=1.5), epoch(2, validation_accuracy=0.6123, validation_loss=1.25)]
    assert "validation 61.2 %" in texts(accuracy_curves(lines, tmp_path / "a.png", title=TITLE))
    assert "validation 1.250" in texts(loss_curves(lines, tmp_path / "l.png", title=TITLE))


def test_dollar_signs_in_a_title_are_not_mathematics(tmp_path):
    accuracy_curves(EPOCHS, tmp_path / "a.png", title=r"a $\wrong{ recipe$")


def test_loss_shows_intervals_at_fractions_of_epochs(tmp_path):
    figure = loss_curves(LINES, tmp_path / "l.png", title=TITLE)
    found = texts(figure)
    assert "logging interval" in found
    assert "training 1.700" in found
    assert "test 1.600" in found
    _, x, y = next(curves(figure))
    assert x == [0.5, 1, 1.5, 2, 2.5, 3]
    assert y == pytest.approx([2.25, 2.2, 2.15, 2.1, 2.05, 2.0])
    assert figure.axes[0].get_xlabel() == "epoch"
    assert_is_drawn(tmp_path / "l.png")


def test_before_the_first_epoch_ends_the_loss_is_drawn_over_steps(tmp_path):
    figure = loss_curves([interval(50), interval(100)], tmp_path / "l.png", title=TITLE)
    assert figure.axes[0].get_xlabel() == "step"
    assert next(curves(figure))[1] == [50, 100]
    assert "No epoch was finished yet" in texts(accuracy_curves([], tmp_path / "a.png", title=TITLE))


def test_values_that_are_absent_or_not_finite_are_left_out(tmp_path):
    lines = [epoch(1), epoch(2, test_loss=float("nan")), epoch(3, test_loss=float("inf"), train_loss=2.0)]
    found = {name: y for name, _, y in curves(loss_curves(lines, tmp_path / "l.png", title=TITLE))}
    assert found["test set"] == pytest.approx([2.2 - 1 / 3])
    assert len(found["training"]) == 3


def test_final_values_that_lie_together_do_not_overlap(tmp_path):
    line = epoch(1, train_accuracy=0.701, test_accuracy=0.7, validation_accuracy=0.7005)
    figure = accuracy_curves([line], tmp_path / "a.png", title=TITLE)
    renderer = figure.canvas.get_renderer()
    labels = [text for text in figure.axes[0].texts if text.get_text().endswith("%")]
    boxes = sorted((text.get_window_extent(renderer) for text in labels), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))


def test_confusion_shows_counts_and_shares_of_rows(tmp_path):
    matrix = np.zeros((10, 10), np.int64)
    matrix[3] = [0, 0, 0, 60, 0, 140, 0, 0, 0, 0]
    figure = confusion_matrix(matrix, CLASSES, tmp_path / "c.png", title=TITLE)
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells[(3, 3)] == "60\n30.0 %"
    assert cells[(5, 3)] == "140\n70.0 %", "x is the predicted class"
    assert cells[(3, 5)] == "0"
    found = texts(figure)
    assert "60 of 200 images are right (30.0 %)" in found
    assert all(name in found for name in CLASSES)
    assert_is_drawn(tmp_path / "c.png")


def test_confusion_texts_fit_their_cells(tmp_path):
    figure = confusion_matrix(np.full((10, 10), 1000), CLASSES, tmp_path / "c.png", title=TITLE)
    renderer, axes = figure.canvas.get_renderer(), figure.axes[0]
    side = axes.get_window_extent(renderer).width / 10
    cells = [text for text in axes.texts if text.get_text().startswith("1,000\n")]
    assert len(cells) == 100
    assert max(text.get_window_extent(renderer).width for text in cells) < side


def test_mistakes_are_the_most_confident_ones_first(tmp_path):
    labels = np.array([0, 1, 2, 3], np.uint8)
    logits = np.zeros((4, 10), np.float32)
    logits[0, 0] = 50  # right, however sure
    logits[1, 5], logits[2, 6], logits[3, 7] = 3, 20, 5
    figure = confident_mistakes(IMAGES[:4], labels, logits, CLASSES, tmp_path / "m.png", title=TITLE, count=2)
    (axes,) = figure.axes
    captions = [text for text in axes.texts if "%" in text.get_text()]
    assert [caption.get_text() for caption in captions] == ["bird → frog\n> 99.9 %", "cat → horse\n94.3 %"]
    for image, caption, expected in zip(axes.images, captions, IMAGES[2:4], strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
        left, right, _, top = image.get_extent()
        assert (left + right) / 2 == pytest.approx(caption.get_position()[0])
        assert caption.get_position()[1] < top
    assert "3 of 4 predictions are wrong" in texts(figure)
    assert_is_drawn(tmp_path / "m.png")


def test_a_network_without_mistakes_gets_a_friendly_figure(tmp_path):
    figure = confident_mistakes(
        IMAGES[:10], LABELS[:10], np.eye(10, dtype=np.float32)[LABELS[:10]], CLASSES, tmp_path / "m.png", title=TITLE
    )
    assert "every prediction was right" in texts(figure)
    assert not any(axes.images for axes in figure.axes)
    assert_is_drawn(tmp_path / "m.png")


def test_draw_all_writes_the_same_four_files_again(tmp_path):
    first, second = (draw_all(tmp_path / name / "plots", lines=LINES, **PREDICTIONS) for name in ("first", "second"))
    assert [path.name for path in first] == ["accuracy.png", "loss.png", "confusion.png", "mistakes.png"]
    for one, other in zip(first, second, strict=True):
        assert_is_drawn(one)
        assert one.read_bytes() == other.read_bytes()


def test_draw_all_manages_one_epoch_without_intervals(tmp_path):
    for path in draw_all(tmp_path, lines=EPOCHS[:1], **PREDICTIONS):
        assert_is_drawn(path)


def test_draw_all_counts_rows_as_true_classes(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("job.figures.run.confusion_matrix", lambda matrix, *rest, **more: drawn.update(matrix=matrix))
    monkeypatch.setattr("job.figures.run.confident_mistakes", lambda *arguments, **more: None)
    draw_all(tmp_path, lines=EPOCHS, **PREDICTIONS)
    expected = np.zeros((10, 10), np.int64)
    np.add.at(expected, (LABELS, LOGITS.argmax(axis=1)), 1)
    np.testing.assert_array_equal(drawn["matrix"], expected)


def test_the_users_matplotlib_settings_change_nothing_and_are_kept(tmp_path):
    usual = tmp_path / "usual.png"
    accuracy_curves(EPOCHS, usual, title=TITLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rcParams, "font.size", 30)
        patch.setitem(rcParams, "axes.facecolor", "black")
        patch.setitem(rcParams, "savefig.dpi", 20)
        accuracy_curves(EPOCHS, tmp_path / "other.png", title=TITLE)
        assert rcParams["font.size"] == 30
    assert (tmp_path / "other.png").read_bytes() == usual.read_bytes()


DRAW = """
import json, sys
from pathlib import Path
from job.figures.run import loss_curves
loss_curves(json.loads(sys.argv[2]), Path(sys.argv[1]), title="t")
print(json.dumps(sorted(sys.modules)))
"""


def test_drawing_needs_no_display_or_pyplot_and_caches_only_where_it_is_told(tmp_path):
    home, cache, image = tmp_path / "home", tmp_path / "cache", tmp_path / "loss.png"
    home.mkdir()
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLBACKEND")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"HOME": str(home), "MPLCONFIGDIR": str(cache), "MPLBACKEND": "tkagg"}
    command = [sys.executable, "-c", DRAW, str(image), json.dumps(LINES)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_is_drawn(image)
    assert list(home.iterdir()) == []
    assert not {"matplotlib.pyplot", "tkinter", "torch", "tensorflow"} & set(json.loads(done.stdout))
