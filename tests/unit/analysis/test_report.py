"""What stands on the page, from made-up runs."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from job.analysis.report import write_report
from job.runs.results import Results
from tests.support.made_up import results, with_predictions


def written(tmp_path: Path, *runs: Results) -> str:
    write_report(runs, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def texts(page: str) -> str:
    """The page's words, without tags and style."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_facts_in_full(tmp_path):
    run = results(fingerprint="0123456789abcdef" * 4)
    run.record["init_from_sha256"] = "ab" * 32
    assert run.attempts[0].claim
    run.attempts[0].claim["gpu_uuid"] = "GPU-7"
    found = texts(written(tmp_path, dataclasses.replace(run, url="s3://user:secret@bucket/prefix/a?token=secret")))
    for fact in (
        "location s3://bucket/prefix/a",
        "data fingerprint " + "0123456789abcdef" * 4,
        "threads 2",
        "seed 0",
        "torch 1.0",
        "GPU-7",
        "ab" * 32,
    ):
        assert fact in found
    assert "secret" not in found


def test_top5_accuracy_where_it_is_recorded(tmp_path):
    run = results()
    assert "top-5 accuracy" not in texts(written(tmp_path, run)), "of an older version"
    recorded = dataclasses.replace(run, summary={**run.summary, "test_top5_accuracy": 0.987})
    assert "98.7 % top-5 accuracy" in texts(written(tmp_path, recorded))


def section(page: str, name: str) -> str:
    """From its heading to the next one."""
    return page.partition(f'<h2 id="{name}">')[2].partition("<h2")[0]


def seeds(engine: str, accuracies: list[float], images: int = 1000) -> list[Results]:
    return [results(f"{engine}-{n}", engine, seed=n, noise=n, accuracy=a, images=images) for n, a in enumerate(accuracies)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of three seeds of torch and two of TensorFlow."""
    runs = [*seeds("torch", [0.90, 0.91, 0.90]), *seeds("tensorflow", [0.92, 0.94])]
    return written(tmp_path_factory.mktemp("page"), *runs)


def test_interval_plots_have_axes(compared):
    names = {
        "sides": "test accuracy in %",
        "difference": "difference in points",
        "classes": "test accuracy in %",
        "runs": "test accuracy in %",
    }
    for where, name in names.items():
        part = section(compared, where)
        assert f'<svg class="scale" role="img" aria-label="{name}">' in part
        assert len(re.findall(r'<text [^>]*y="19">[+−]?[0-9.]+</text>', part)) >= 2
    assert re.search(r"<text [^>]*>0</text>", section(compared, "difference"))


def test_a_comparison_is_of_sides(compared):
    part = section(compared, "sides")
    found = texts(part)
    assert "torch 0, 1, 2 90.3 %" in found
    assert "tensorflow 0, 1 93.0 %" in found
    plots = re.findall(r'<svg class="interval".*?</g></svg>', part)
    assert [len(re.findall("<circle", plot)) for plot in plots] == [3, 2]
    assert len(re.findall("<h2>", compared)) == 5  # a section for each run


def test_equal_seeds_do_not_hide_each_other(compared):
    points = re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', section(compared, "sides"))
    assert len(points) == len(set(points)) == 5


def test_the_difference_has_a_direction_and_says_what_could_have_been_seen(compared):
    found = texts(section(compared, "difference"))
    assert "tensorflow minus torch +2.7" in found
    assert re.search(r"seen with 80 % power .*±[0-9.]+", found)
    assert "Seeds needed on each side to see a difference" in found
    pairs = texts(section(compared, "pairs"))
    assert "tensorflow-1 minus torch-0" in pairs
    assert pairs.count(" minus t") == 10


def test_settings_are_told_by_side(compared):
    found = texts(section(compared, "differences"))
    assert found.startswith("What differs torch tensorflow fair?")
    assert "seed 0, 1, 2 0, 1 fair: a repetition" in found


def test_classes_have_intervals_for_each_side(compared):
    part = section(compared, "classes")
    plots = re.findall(r'<svg class="interval".*?</svg></g></svg>', part)
    assert len(plots) == 10
    assert all(plot.count('<g class="side"') == 2 for plot in plots)
    row = re.search(r"airplane ([0-9.]+) % ([0-9.]+) – ([0-9.]+) ([0-9.]+) % ([0-9.]+) – ([0-9.]+) ([+−0-9.]+)", texts(part))
    first, low, high, second, _, _, difference = (float(value.replace("−", "-")) for value in row.groups())
    assert low < first < high
    assert difference == pytest.approx(second - first, abs=0.11)


def test_the_confusion_difference_is_second_minus_first(tmp_path):
    """The second side takes 10 of 20 images of class 0 for class 1; the first side none."""
    first = results("a", images=400, accuracy=1.0)
    predictions = first.labels.copy()
    zeros = np.flatnonzero(predictions == 0)
    predictions[zeros[: len(zeros) // 2]] = 1
    second = with_predictions(results("b", "tensorflow", images=400, accuracy=1.0), predictions, "b")
    share = 100 * (len(zeros) // 2) / len(zeros)
    part = section(written(tmp_path, first, second), "confusion")
    assert "tensorflow minus torch, in points of the true class" in texts(part)
    cells = re.findall(r'<td class="([^"]*)" style="--shade:65%">([^<]+)</td>', part)
    assert cells == [("right minus", f"−{share:.1f}"), ("plus", f"+{share:.1f}")]
    assert "No cell differs." in texts(section(written(tmp_path, first, results("b", "tensorflow", images=400, accuracy=1.0)), "confusion"))


def test_one_seed_on_each_side_is_a_pair_of_networks(tmp_path):
    page = written(tmp_path, results("a"), results("b", "tensorflow", noise=2))
    assert "second run minus first" in texts(section(page, "difference"))
    assert not section(page, "pairs")
    assert not re.search("<circle", section(page, "sides"))


def test_many_pairs_are_counted_not_listed(tmp_path):
    runs = [*seeds("torch", [0.9] * 6, images=200), *seeds("tensorflow", [0.9] * 6, images=200)]
    page = written(tmp_path, *runs)
    assert "66 pairs of runs" in texts(section(page, "runs"))
    assert not section(page, "pairs")


def test_the_page_of_one_run_has_no_sides(tmp_path):
    page = written(tmp_path, results("a"))
    assert not section(page, "sides") + section(page, "confusion") + section(page, "differences")
    assert re.search(r"airplane [0-9.]+ % [0-9.]+ – [0-9.]+ automobile", texts(section(page, "classes")))
    assert texts(section(page, "result")).startswith("Result run seed epochs test accuracy")


def test_sides_have_keys_that_differ_in_colour_dash_and_marker(tmp_path):
    page = written(tmp_path, results("a"), results("b", seed=1, noise=1), results("c", "tensorflow", noise=2))
    keys = re.findall(r'<svg class="key side".*?</svg>', page)
    assert len(set(keys)) == 2
    assert len({re.search("color:(#[0-9A-F]+)", key)[1] for key in keys}) == 2
    assert len({re.search('d="([^"]+)"', key)[1] for key in keys}) == 2
    assert ["stroke-dasharray" in key for key in dict.fromkeys(keys)] == [False, True]


@pytest.mark.parametrize("count", [1, 2])
def test_the_page_asks_for_nothing(tmp_path, count):
    page = written(tmp_path, *[results("a"), results("b", "tensorflow", noise=2)][:count])
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<link|@import|src=\"(?!data:)|url\(", page)
