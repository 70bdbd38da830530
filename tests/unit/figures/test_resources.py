"""The figure of the resource log: which panels there are, where the marks stand, and that nothing it may meet breaks it."""

from pathlib import Path

import numpy as np
import pytest

import job.figures.resources
from job.figures.resources import draw_resources

PNG = b"\x89PNG\r\n\x1a\n"


def rows(count=40, *, gpus=0, attempt="0001-aaaaaa", start=1000.0, epoch=0, **changes):
    made = []
    for n in range(count):
        cards = [{"index": g, "utilization_percent": 90, "memory_used_bytes": 5e9, "memory_total_bytes": 80e9} for g in range(gpus)]
        row = {"time": start + n, "attempt": attempt, "epoch": epoch + n // 10, "process_cpu_cores": 1.0, "process_memory_bytes": 1e9}
        made.append(row | ({"gpus": cards} if gpus else {}) | changes)
    return made


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws, and returns the figure that was saved."""
    figures = []

    def keep(figure, path: Path):
        figure.savefig(path)
        figures.append(figure)
        return figure

    monkeypatch.setattr(job.figures.resources, "saved", keep)

    def draw(samples):
        path = draw_resources(samples, tmp_path / "resources.png", title="a $run$")
        assert path
        assert path.read_bytes().startswith(PNG)
        return figures[-1]

    return draw


def titles(figure):
    return [axes.get_title(loc="left").splitlines()[-1] for axes in figure.axes]


def marks(axes, style):
    """x of the vertical lines."""
    return [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == style and len(set(line.get_xdata())) == 1]


def test_there_is_a_panel_for_what_there_is(drawn):
    assert titles(drawn(rows())) == ["CPUs in use", "memory in GB"]
    assert titles(drawn(rows(gpus=1))) == ["GPU utilisation in %", "GPU memory in GB", "CPUs in use", "memory in GB"]
    assert "waiting for upload, in MB" in titles(drawn(rows(spool_bytes=5e6)))


def test_a_limit_alone_makes_no_panel(drawn):
    assert "memory in GB" not in titles(
        drawn([{"time": float(n), "container_memory_limit_bytes": 1e9, "process_cpu_cores": 1.0} for n in range(5)])
    )


def test_a_quota_that_was_never_met_has_no_panel(drawn):
    quota = "CPU time refused by the quota, in s per s"
    assert quota not in titles(drawn(rows(container_throttled_seconds_per_second=0.0)))
    assert quota in titles(drawn([*rows(), *rows(5, start=1040.0, container_throttled_seconds_per_second=0.1)]))


def test_units(drawn):
    figure = drawn(rows(container_memory_limit_bytes=3e9))
    process, limit = figure.axes[1].lines[:2]
    assert set(process.get_ydata()) == {1.0}
    assert set(limit.get_ydata()) == {3.0}
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["this process", "limit"]


def test_epochs_are_marked_in_every_panel_and_numbered_in_the_first(drawn):
    figure = drawn(rows())
    for axes in figure.axes:
        assert marks(axes, "-") == [10, 20, 30]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3"]


def test_many_epochs_leave_room_for_the_curves(drawn):
    figure = drawn([{**row, "epoch": n} for n, row in enumerate(rows(500))])
    assert 10 < len(marks(figure.axes[0], "-")) <= 40
    assert 5 < len(figure.axes[0].texts) < 25


def test_pauses_between_attempts_are_left_out(drawn):
    figure = drawn([*rows(), *rows(start=90_000.0, attempt="0002-bbbbbb", epoch=3)])
    assert marks(figure.axes[0], "--") == [40]
    assert figure.axes[0].get_xlim()[1] == 79
    assert "dashed: a new attempt" in figure.axes[-1].get_xlabel()


def test_each_gpu_has_its_curve_and_many_have_their_mean(drawn):
    def labels(count):
        return [text.get_text() for text in drawn(rows(gpus=count)).axes[0].get_legend().get_texts()]

    assert labels(2) == ["GPU 0", "GPU 1"]
    assert labels(8) == ["mean of 8 GPUs"]


def test_gaps_stay_gaps(drawn):
    samples = rows(gpus=1)
    del samples[5]["gpus"]
    values = drawn(samples).axes[0].lines[0].get_ydata()
    assert np.isnan(values[5])
    assert np.isfinite(np.delete(values, 5)).all()


def test_a_long_run_has_hours(drawn):
    assert drawn(rows(9_000)).axes[-1].get_xlabel() == "hours of work"


def test_nothing_to_draw(tmp_path):
    assert draw_resources([], tmp_path / "a.png", title="a") is None
    assert draw_resources(rows(1), tmp_path / "a.png", title="a") is None
    assert draw_resources([{"time": 1.0}, {"time": 2.0}], tmp_path / "a.png", title="a") is None
    assert not (tmp_path / "a.png").exists()


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first, second = (draw_resources(rows(gpus=2), tmp_path / f"{n}.png", title="a") for n in range(2))
    assert first.read_bytes() == second.read_bytes()
