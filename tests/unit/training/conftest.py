"""A trainer for each test, without the pictures that take seconds."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.core.exits import Exit
from job.training import publish
from tests.support.trainer import Trainer


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and report have tests of their own, and take seconds."""
    for name in ("draw_all", "draw_resources", "write_report", "_as_results"):
        monkeypatch.setattr(publish, name, lambda *_, **__: None)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_all", "draw_resources", "write_report", "_as_results"):
            patch.setattr(publish, name, lambda *_, **__: None)
        assert trainer.attempt() is Exit.DONE
    return trainer
