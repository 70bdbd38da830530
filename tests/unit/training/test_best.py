"""The best checkpoint is damaged or gone: before an attempt, while it works, on its disk.  The run ends with a result and a word for it."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from job.core.exits import Exit
from job.core.records import EpochLine
from job.runs.checkpoint import CheckpointName
from job.runs.leftovers import SpoolFolders
from job.runs.spool import Spool, Upload
from job.storage.files import encoded
from job.storage.manifest import Manifest
from job.training.progress import Progress
from tests.support.numpy_engine import NumpyNetwork
from tests.support.trainer import RECIPE, Trainer, at_step, terminate

EPOCH = 10
"""steps"""
RECIPE = RECIPE.with_values({"validation": 10, "batch_size": 4, "epochs": 4})
ACCURACIES = {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6}


@pytest.fixture(autouse=True)
def accuracies(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """On the validation images, of each epoch; a test may change them."""
    found, before = dict(ACCURACIES), Progress.end_epoch

    def end_epoch(progress: Progress, line: EpochLine) -> None:
        before(progress, {**line, "validation_accuracy": found[line["epoch"]]})

    monkeypatch.setattr(Progress, "end_epoch", end_epoch)
    return found


def folder_of(trainer: Trainer, step: int) -> Path:
    (folder,) = (trainer.store.root / "r" / "checkpoints").glob(f"step-{step:08d}-*")
    return folder


def flip(trainer: Trainer, step: int) -> None:
    """One bit."""
    path = folder_of(trainer, step) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def cut(trainer: Trainer, step: int) -> Exit:
    """An attempt that ends in this step, when the epochs before it are stored."""

    def end() -> None:
        while not any((trainer.store.root / "r").glob(f"checkpoints/step-{step // EPOCH * EPOCH:08d}-*/MANIFEST.json")):
            time.sleep(0.01)
        terminate()

    return trainer.attempt(RECIPE, before_step=at_step(step, end))


def vanish(trainer: Trainer, step: int) -> None:
    shutil.rmtree(folder_of(trainer, step))


def of_other_kind(trainer: Trainer, step: int) -> None:
    """No tensors, but the right digest."""
    folder = folder_of(trainer, step)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    (folder / "MANIFEST.json").unlink()
    (folder / "MANIFEST.json").write_bytes(Manifest.of_folder(folder, sorted(folder.iterdir())).encode())


def lost(trainer: Trainer) -> list[str]:
    """What the findings say of it."""
    return [finding["seen"] for finding in trainer.summary["findings"] if finding["title"] == "The best weights were lost"]


def check_result(trainer: Trainer, epoch: int) -> None:
    """The run ended well, with the weights of this epoch, which are in the store; the log and the summary say what was lost."""
    summary = trainer.summary
    assert (summary["model_epoch"], summary["validation_accuracy"]) == (epoch, ACCURACIES[epoch])
    assert summary["model"].startswith(f"checkpoints/step-{epoch * EPOCH:08d}-")
    lines = map(json.loads, (trainer.store.root / "r" / "final" / summary["attempt"] / "metrics.jsonl").read_text().splitlines())
    (line,) = (line for line in lines if line["kind"] == "epoch" and line["epoch"] == epoch)
    assert summary["test_accuracy"] == line["test_accuracy"]
    name = CheckpointName.parse(summary["model"].split("/")[1])
    assert name is not None
    trainer.run.fetch_checkpoint(name, trainer.spools / "read")
    assert f"all after epoch {epoch}, chosen by the validation images" in trainer.log.lines[-1]
    assert len(lost(trainer)) == 1
    assert "checkpoint step-00000010-0001-" in trainer.log.text


@pytest.mark.parametrize("harm", [flip, vanish, of_other_kind])
def test_before_an_attempt(trainer: Trainer, harm: Callable[[Trainer, int], None]) -> None:
    """It is told at once, and the one that steps in stays in the store until the end."""
    assert cut(trainer, 2 * EPOCH + 5) is Exit.TERMINATED
    assert trainer.checkpoints == [25, 20, 10]
    harm(trainer, EPOCH)
    told: list[str] = []
    assert trainer.attempt(RECIPE, before_step=at_step(2 * EPOCH + 6, lambda: told.append(trainer.log.text))) is Exit.DONE
    assert "checkpoint step-00000010-0001-" in told[0]
    assert "are lost; the best of the checkpoints that are left is step-00000020-0001-" in told[0]
    check_result(trainer, epoch=2)
    assert trainer.checkpoints == [40, 30, 20]


@pytest.mark.parametrize("harm", [flip, vanish, of_other_kind])
def test_while_an_attempt_works(trainer: Trainer, harm: Callable[[Trainer, int], None]) -> None:
    assert cut(trainer, 2 * EPOCH + 5) is Exit.TERMINATED
    assert trainer.attempt(RECIPE, before_step=at_step(4 * EPOCH, lambda: harm(trainer, EPOCH))) is Exit.DONE
    check_result(trainer, epoch=3)


def test_the_one_that_steps_in_is_not_cleared_away_behind_its_back(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last delivery is slow: when the best one turns out damaged, the store still has one that retention is about to remove."""
    assert cut(trainer, 2 * EPOCH + 5) is Exit.TERMINATED
    released, deliver = threading.Event(), Spool._deliver

    def slowly(spool: Spool, upload: Upload) -> None:
        if upload.step == 4 * EPOCH:
            released.wait(20)
        deliver(spool, upload)

    def harm(network: NumpyNetwork) -> None:
        if network.number == 4 * EPOCH:
            flip(trainer, EPOCH)
            threading.Timer(0.5, released.set).start()

    monkeypatch.setattr(Spool, "_deliver", slowly)
    assert trainer.attempt(RECIPE, before_step=harm) is Exit.DONE
    check_result(trainer, epoch=3)
    assert folder_of(trainer, 3 * EPOCH).is_dir()


def test_the_last_one_is_left(trainer: Trainer) -> None:
    """All other ones are damaged: the weights on the device are the result."""
    assert cut(trainer, 3 * EPOCH + 5) is Exit.TERMINATED
    flipped = at_step(4 * EPOCH, lambda: [flip(trainer, step) for step in (10, 30)])
    assert trainer.attempt(RECIPE, before_step=flipped) is Exit.DONE
    check_result(trainer, epoch=4)


def test_none_is_left_and_the_best_of_those_to_come_counts(trainer: Trainer) -> None:
    assert cut(trainer, EPOCH + 5) is Exit.TERMINATED
    flip(trainer, EPOCH)
    assert trainer.attempt(RECIPE) is Exit.DONE
    assert "are lost; no other checkpoint of an epoch's end is left, so the best of the epochs to come will count" in trainer.log.text
    check_result(trainer, epoch=2)


def test_a_better_one_that_comes_later_is_the_result(trainer: Trainer, accuracies: dict[int, float]) -> None:
    """And nothing is said to be lost."""
    accuracies[4] = 0.95
    assert cut(trainer, EPOCH + 5) is Exit.TERMINATED
    flip(trainer, EPOCH)
    assert trainer.attempt(RECIPE) is Exit.DONE
    assert trainer.summary["model_epoch"] == 4
    assert lost(trainer) == []


def test_no_checkpoint_of_other_epochs_steps_in(trainer: Trainer) -> None:
    """One of the same step, left by an attempt whose steps the run does not rest on."""
    assert cut(trainer, 2 * EPOCH + 5) is Exit.TERMINATED
    folder = folder_of(trainer, 2 * EPOCH)
    other = folder.rename(folder.with_name("step-00000020-0001-ffffff"))
    lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    (other / "metrics.jsonl").write_bytes(b"".join(encoded({**line, "time": 1.0}).replace(b"\n", b"") + b"\n" for line in lines))
    (other / "MANIFEST.json").unlink()
    (other / "MANIFEST.json").write_bytes(Manifest.of_folder(other, sorted(other.iterdir())).encode())
    flip(trainer, EPOCH)
    assert trainer.attempt(RECIPE) is Exit.DONE
    assert "step-00000020-0001-ffffff is left out: its metrics.jsonl tells of other epochs" in trainer.log.text
    check_result(trainer, epoch=3)


def test_one_that_only_this_disk_has(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is at hand when the run ends, though its delivery takes longer than the training."""
    assert cut(trainer, 3 * EPOCH + 5) is Exit.TERMINATED
    record = trainer.run.record()
    assert record is not None
    left = SpoolFolders(trainer.run, record, trainer.spools).undelivered() / "r" / "checkpoints"
    left.mkdir(parents=True)
    folder_of(trainer, EPOCH).rename(left / folder_of(trainer, EPOCH).name)
    taken, deliver = threading.Event(), Spool._deliver

    def slowly(spool: Spool, upload: Upload) -> None:
        if upload.step == EPOCH:
            taken.wait(20)
        deliver(spool, upload)

    def release(network: NumpyNetwork) -> None:
        if network.number == 4 * EPOCH:
            threading.Timer(1.0, taken.set).start()

    monkeypatch.setattr(Spool, "_deliver", slowly)
    assert trainer.attempt(RECIPE, before_step=release) is Exit.DONE
    assert "checkpoint step-00000010-0001-" in trainer.log.text, "was left on this disk"
    assert (trainer.summary["model_epoch"], lost(trainer)) == (1, [])
    trainer.store.get(f"r/{trainer.summary['model']}")


def test_a_checkpoint_that_would_fill_the_disk(trainer: Trainer) -> None:
    """It is not fetched: the listing tells its size."""
    assert cut(trainer, 2 * EPOCH + 5) is Exit.TERMINATED
    for step in (EPOCH, 2 * EPOCH + 5):
        with (folder_of(trainer, step) / "model.safetensors").open("ab") as file:
            file.truncate(1 << 40)  # sparse
    assert trainer.attempt(RECIPE) is Exit.DONE
    assert trainer.log.text.count("model.safetensors has 1,099,511,627,776 bytes, its manifest says ") == 2
    check_result(trainer, epoch=2)
