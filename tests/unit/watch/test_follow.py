"""`alexnet pull --follow`: the curves grow here while a real attempt of the NumPy engine works, and the whole run follows."""

import threading
from pathlib import Path

from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from job.cli.pull import pull
from job.runs.snapshot import Observer
from job.watch.follow import NAME, follow
from tests.support.numpy_engine import NumpyNetwork
from tests.support.trainer import STEPS, Trainer, at_step, terminate


def epochs(folder: Path) -> list[int]:
    """Steps at which the event file has a test accuracy."""
    events = EventAccumulator(str(folder / NAME)).Reload()
    return [event.step for event in events.Scalars("test/accuracy")] if "test/accuracy" in events.Tags()["scalars"] else []


def test_the_curves_grow_while_the_run_works(tmp_path: Path) -> None:
    trainer, here, said, seen = Trainer(tmp_path), tmp_path / "here", list[str](), list[list[int]]()
    follower = threading.Thread(target=lambda: follow(Observer(trainer.run), here, said.append, 0.02))

    def look(network: NumpyNetwork) -> None:
        if network.number == 1:
            follower.start()
        if network.number == STEPS + 4:
            arrived = threading.Event()
            while not (here / "r" / NAME).exists() or epochs(here / "r") == []:
                assert not arrived.wait(0.02)
            seen.append(epochs(here / "r"))

    trainer.attempt(before_step=look)
    follower.join()
    assert seen == [[STEPS]]
    assert said[0].startswith("r: epoch 0/3")
    assert any(line.startswith("r: epoch 1/3") for line in said)
    assert not (here / "r" / NAME).exists(), "the run is finished: `pull` brings its own event file"


def test_a_run_that_was_stopped_is_brought_with_its_curves(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    trainer.attempt(before_step=at_step(STEPS + 3, terminate))
    done = CliRunner().invoke(pull, [f"{trainer.store.root}/r", str(tmp_path / "here"), "--follow"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "verified by their SHA-256" in done.output
    assert epochs(tmp_path / "here" / "r") == [STEPS]
    assert (tmp_path / "here" / "r" / "run.json").is_file()
