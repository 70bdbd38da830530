"""Runs that are at work, stopped or diverged, as who looks on sees them: real attempts of the NumPy engine."""

import re
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from job.analysis.progress_page import write_page
from job.cli.compare import compare
from job.cli.report import report
from job.cli.watch import watch
from job.core.exits import JobError
from job.runs.results import read_results
from job.runs.snapshot import Observer, Snapshot
from job.watch.braille import Curve, plot
from job.watch.screen import screen
from job.watch.serve import PageServer
from tests.support.numpy_engine import NumpyNetwork
from tests.support.trainer import STEPS, Trainer, at_step, terminate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path)


@pytest.fixture
def stopped(trainer: Trainer) -> Trainer:
    """In its second epoch, by SIGTERM."""
    trainer.attempt(before_step=at_step(STEPS + 3, terminate))
    return trainer


@pytest.fixture
def diverged(trainer: Trainer) -> Trainer:
    def poison(network: NumpyNetwork) -> None:
        if network.number == STEPS + 4:
            network.parameters[network.head[1]][...] = float("nan")

    with pytest.raises(JobError):
        trainer.attempt(before_step=poison)
    return trainer


def shown(*runs: Snapshot, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(screen(runs, width=width))
    return console.export_text()


def url(trainer: Trainer) -> str:
    return f"{trainer.store.root}/r"


def test_a_run_at_work(trainer: Trainer) -> None:
    observer, looks = Observer(trainer.run), list[Snapshot]()

    def look(network: NumpyNetwork) -> None:
        if network.number == 1:
            looks.append(observer.snapshot())
        if network.number == STEPS + 4:
            arrived = threading.Event()
            while not trainer.checkpoints or not trainer.run.manifest("checkpoints", str(trainer.run.checkpoint_names()[0])):
                arrived.wait(0.01)
            looks.append(observer.snapshot())
            terminate()

    trainer.attempt(before_step=look)
    first, second = looks
    assert (first.state, first.step, first.lines, first.latest) == ("running", 0, [], None)
    assert "No checkpoint is stored yet" in shown(first)
    assert (second.state, second.epoch, second.step, second.steps) == ("running", 1, STEPS, 3 * STEPS)
    assert second.seconds_left is not None
    assert second.seconds_left > 0
    text = shown(second)
    assert re.search(r"running, last sign \d+ s ago, \d+ s left", text)
    assert f"epoch 1/3 · step {STEPS}/{3 * STEPS} · " in text
    assert second.advice == ""


def test_a_stopped_run_can_be_continued(stopped: Trainer) -> None:
    run = Observer(stopped.run).snapshot()
    assert (run.state, run.step) == ("interrupted", STEPS + 3)
    with pytest.raises(JobError, match=r"no results yet\. It is interrupted: stopped by SIGTERM.* with --run-id r continues it\.$"):
        read_results(url(stopped))
    assert "continues it" in shown(run)
    assert "stopped by SIGTERM" in shown(run)


def test_a_diverged_run_is_not_to_be_continued(diverged: Trainer, tmp_path: Path) -> None:
    run = Observer(diverged.run).snapshot()
    assert run.state == "failed"
    result = CliRunner().invoke(report, [url(diverged), "--output", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    compared = CliRunner().invoke(compare, [url(diverged), url(diverged)])
    assert isinstance(compared.exception, JobError)
    assert "this run has no results yet. It failed: step " in str(compared.exception)
    for text in (shown(run), page, str(compared.exception)):
        assert "has diverged" in text
        assert "would diverge again" in " ".join(text.split())
        assert "ontinue" not in text
    assert page.index("has diverged") < page.index("<img"), "the reason comes first"
    assert {path.name for path in tmp_path.glob("*.png")} == {"accuracy.png", "loss.png"}


def test_a_checkpoint_that_is_damaged_or_gone_gives_way_to_the_one_before(trainer: Trainer) -> None:
    trainer.attempt(before_step=at_step(2 * STEPS + 1, terminate), options={"checkpoint_steps": 4})
    newest, before = trainer.run.checkpoint_names()[:2]
    root = trainer.store.root / "r" / "checkpoints"
    with (root / str(newest) / "metrics.jsonl").open("a") as file:
        file.write("{}\n")
    assert Observer(trainer.run).snapshot().lines[-1]["step"] <= before.step
    (root / str(newest) / "metrics.jsonl").unlink()
    assert Observer(trainer.run).snapshot().lines[-1]["step"] <= before.step


def test_several_runs_lie_side_by_side_as_far_as_they_fit(stopped: Trainer) -> None:
    run = Observer(stopped.run).snapshot()
    tall, wide = shown(run, run, width=60), shown(run, run, width=120)
    assert len(tall.splitlines()) == 2 * len(wide.splitlines())
    assert max(map(len, wide.splitlines())) <= 120


def test_without_a_terminal_a_line_for_each_run(stopped: Trainer) -> None:
    result = CliRunner().invoke(watch, [url(stopped), url(stopped)])
    assert result.exit_code == 0, result.output
    (line,) = set(result.output.splitlines())
    assert re.search(rf"r: epoch 1/3, step {STEPS + 3}/{3 * STEPS}, .*images/s, loss [\d.]+, test accuracy [\d.]+ %; interrupted", line)


def test_a_curve_is_where_its_numbers_are() -> None:
    rows = plot([Curve(points=[(0, 0.0), (1, 1.0)], style="red")], width=14, height=4, right=1.0)
    cells = [row.plain[-9:] for row in rows]
    assert [row.plain[:3] for row in rows] == ["1 ┤", "  │", "  │", "0 ┤"]
    assert cells[0][-1] != "\u2800", "the end is at the upper right"
    assert cells[0][0] == "\u2800"
    assert cells[-1][0] != "\u2800", "the beginning at the lower left"
    assert cells[-1][-1] == "\u2800"
    level = plot([Curve(points=[(0, 5.0), (1, 5.0)], style="red")], width=14, height=4, right=1.0, top=10.0)
    assert [any(cell != "\u2800" for cell in row.plain[4:]) for row in level].count(True) == 1
    plot([], width=14, height=4, right=1.0)
    plot([Curve(points=[(1, float("nan"))], style="red")], width=14, height=4, right=0.0)


def test_the_page_is_served_to_this_machine_only(stopped: Trainer) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with served(Observer(stopped.run), 60) as server:
        assert server.url.startswith("http://127.0.0.1:")
        with opener.open(server.url) as answer:
            page = answer.read().decode()
        assert '<meta http-equiv="refresh" content="60">' in page
        assert "stopped by SIGTERM" in page
        for path, headers in (("other", {}), ("", {"Host": "evil.example:80"})):
            with pytest.raises(urllib.error.HTTPError) as caught:
                opener.open(urllib.request.Request(server.url + path, headers=headers))  # noqa: S310
            assert caught.value.code in (403, 404)
            caught.value.close()


@pytest.fixture
def browser(tmp_path: Path) -> list[str]:
    """The command, without an address."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    return [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr"]


@contextmanager
def served(observer: Observer, seconds: int) -> Iterator[PageServer]:
    server = PageServer([observer], port=0, seconds=seconds)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def test_a_browser_paints_the_page(browser: list[str], stopped: Trainer, tmp_path: Path) -> None:
    with served(Observer(stopped.run), 600) as server:
        command = [*browser, "--window-size=1000,1400", f"--screenshot={tmp_path}/page.png", server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "CONSOLE" not in done.stderr, "nothing is refused by the page's own policy"
    with Image.open(tmp_path / "page.png") as seen:
        assert len(set(seen.convert("RGB").resize((100, 140)).get_flattened_data())) > 50, "text and curves, not a blank page"


def test_a_browser_asks_again(browser: list[str], stopped: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = threading.Semaphore(0)
    with served(Observer(stopped.run), 1) as server:
        page = server.page
        monkeypatch.setattr(server, "page", lambda: made.release() or page())
        with subprocess.Popen([*browser, "--remote-debugging-port=0", server.url], stderr=subprocess.DEVNULL) as process:
            try:
                assert made.acquire(timeout=90)
                assert made.acquire(timeout=30), "the page has itself refreshed"
            finally:
                process.terminate()


def test_the_page_of_several_runs(stopped: Trainer, tmp_path: Path) -> None:
    figures = write_page([Observer(stopped.run), Observer(stopped.run)], tmp_path / "page.html")
    assert sorted(figures) == [f"run-{n}-{name}.png" for n in (1, 2) for name in ("accuracy", "loss")]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 4
    assert "refresh" not in page
