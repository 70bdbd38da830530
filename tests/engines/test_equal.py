"""Both engines compute the same network and masks, each agrees with its framework's own functions.  Whole steps: `test_parity`.

Every framework runs in a subprocess (`tests.engines.probe`): this one imports neither.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from job import engines
from job.core.dropout import keep_mask
from job.core.sampling import CROP_PADDING, OFFSETS, mean_colour, plan, row_keys
from job.engines.host import computes_in_bf16
from tests.engines.probe import FORMS, MASKS, SMALL, pictures

ROOT = Path(__file__).parents[2]
EXACT, SINGLE = 1e-11, 1e-5

pytestmark = pytest.mark.skipif(engines.installed() != engines.ENGINES, reason="needs both torch and tensorflow")


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """probed(what, *engines): the arrays of each engine, computed once, the engines side by side."""
    folder = tmp_path_factory.mktemp("probe")

    @cache
    def probe(what, *names):
        files = {name: folder / f"{name}-{what}.safetensors" for name in names}
        running = [
            subprocess.Popen([sys.executable, "-m", "tests.engines.probe", name, what, file], cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for name, file in files.items()
        ]
        for process in running:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors[-3000:]
        return [load_file(file) for file in files.values()]

    return probe


def difference(one, other):
    """Largest difference, relative to the largest value."""
    assert one.shape == other.shape
    return np.abs(one.astype(np.float64) - other).max() / max(np.abs(other).max(), 1e-300)


@pytest.mark.parametrize("size", [224, 96])
@pytest.mark.parametrize(("precision", "limit"), [("fp64", EXACT), ("fp32", SINGLE)])
@pytest.mark.parametrize("engine", [0, 1], ids=engines.ENGINES)
def test_logits_are_those_of_torchvision(probed, engine, size, precision, limit):
    answers = probed("logits", *engines.ENGINES)
    expected = answers[0][f"{size}/torchvision"]
    assert expected.std(0).max() > 0.1 * np.abs(expected).max()  # the images are told apart
    assert difference(answers[engine][f"{size}/{precision}"], expected) <= limit


def test_masks_are_equal_to_the_bit(probed):
    for answer in probed("functions", *engines.ENGINES):
        for index, (rate, features, batch) in enumerate(MASKS):
            np.testing.assert_array_equal(answer[f"mask/{index}"], keep_mask(row_keys(3, index, 0, batch), features, rate))


def test_auto_is_what_the_cpu_computes_in(probed):
    assert [bool(answer["auto is bf16"]) for answer in probed("functions", *engines.ENGINES)] == [computes_in_bf16()] * 2


def test_relu_and_max_pool_commute(probed):
    """Exactly, in the gradient too, of numbers most of which are tied in their window."""
    for answer in probed("functions", *engines.ENGINES):
        assert np.count_nonzero(answer["relu/after"]) > 100
        np.testing.assert_array_equal(answer["relu/after"], answer["relu/before"])


def test_crops_are_equal_to_the_bit(probed):
    images = pictures(32)[0].astype(np.float32)
    chosen = plan(SMALL.with_values({"batch_size": 32}), SMALL.architecture(), 5, np.arange(32), epoch=0, step=0)
    padded = np.pad(images, ((0, 0), (CROP_PADDING,) * 2, (CROP_PADDING,) * 2, (0, 0)), mode="reflect")
    expected = []
    for image, row, column in zip(padded, chosen.rows, chosen.columns, strict=True):
        left = column % OFFSETS
        window = image[row : row + 32, left : left + 32]
        expected.append((window[:, ::-1] if column >= OFFSETS else window).transpose(2, 0, 1))
    for answer in probed("functions", *engines.ENGINES):
        np.testing.assert_array_equal(answer["crop"], expected)


def test_cutouts_are_equal_to_the_bit(probed):
    images = pictures(32)[0].astype(np.float32).transpose(0, 3, 1, 2).copy()
    recipe = SMALL.with_values({"batch_size": 32, "cutout": 9})
    chosen = plan(recipe, recipe.architecture(), 5, np.arange(32), epoch=0, step=0)
    for image, row, column in zip(images, *chosen.centres, strict=True):
        image[:, max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5] = mean_colour("cifar10")
    for answer in probed("functions", *engines.ENGINES):
        np.testing.assert_array_equal(answer["cutout"], images)


@pytest.mark.parametrize("size", [64, 224])
def test_resizing_is_that_of_the_framework(probed, size):
    for answer in probed("functions", *engines.ENGINES):
        assert difference(answer[f"resize/{size}/ours"], answer[f"resize/{size}/theirs"]) <= SINGLE


def test_standardisation_by_image_is_that_of_tensorflow(probed):
    torch, tensorflow = probed("functions", *engines.ENGINES)
    for answer in (torch, tensorflow):
        assert difference(answer["per-image/ours"], tensorflow["per-image/theirs"]) <= SINGLE


@pytest.mark.parametrize(("engine", "form"), [*(("torch", form) for form in FORMS), ("tensorflow", "adam-keras")])
def test_update_is_that_of_the_framework(probed, engine, form):
    (answer,) = probed("optimizers", engine)
    names = [name.removeprefix(f"ours/{form}/") for name in answer if name.startswith(f"ours/{form}/")]
    assert len(names) == 16
    for name in names:
        assert difference(answer[f"ours/{form}/{name}"], answer[f"theirs/{form}/{name}"]) <= EXACT, name


@pytest.mark.parametrize("size", [64, 224])
def test_a_saved_keras_model_is_the_same_network(probed, size):
    (answer,) = probed("saved", "tensorflow")
    np.testing.assert_array_equal(answer[f"{size}/after"], answer[f"{size}/before"])
    assert difference(answer[f"{size}/after"], answer[f"{size}/engine"]) <= SINGLE


def test_this_process_imports_no_framework():
    assert not {"torch", "tensorflow", "keras"} & set(sys.modules)
