"""What stands on the page, from made-up runs."""

import dataclasses
import re
from pathlib import Path

import pytest

from job.analysis.report import write_report
from job.runs.results import Results
from tests.support.made_up import results


def written(tmp_path: Path, *runs: Results) -> str:
    write_report(runs, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def texts(page: str) -> str:
    """The page's words, without tags and style."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_facts_in_full(tmp_path):
    run = results(fingerprint="0123456789abcdef" * 4)
    found = texts(written(tmp_path, dataclasses.replace(run, url="s3://user:secret@bucket/prefix/a?token=secret")))
    for fact in ("location s3://bucket/prefix/a", "data fingerprint " + "0123456789abcdef" * 4, "threads 2", "seed 0", "torch 1.0"):
        assert fact in found
    assert "secret" not in found


def test_interval_plots_have_axes(tmp_path):
    page = written(tmp_path, results("a", noise=1, accuracy=0.9), results("b", "tensorflow", noise=2, accuracy=0.902))
    (accuracy, difference) = dict.fromkeys(re.findall(r'<svg class="scale" role="img" aria-label="([^"]+)"', page))
    assert accuracy == "test accuracy in %"
    assert difference == "difference in points"
    assert re.search(r"<text [^>]*>90</text>", page)
    assert re.search(r"<text [^>]*>0</text>", page)


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
