"""What an attempt that was killed, or that could not deliver, leaves on its disk: the next one there takes it up."""

import fcntl
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from job.core.exits import Exit, JobError
from job.training import start
from job.training.options import Options
from job.training.stopping import StopSignal
from tests.support.numpy_engine import NumpyNetwork
from tests.support.trainer import RECIPE, STEPS, Refusing, Trainer, at_step, terminate


def spools(trainer: Trainer) -> list[Path]:
    return sorted(trainer.spools.iterdir())


def checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("r/checkpoints/step-*"), reverse=True)


def kill(trainer: Trainer, number: int, *, stored: int, while_writing: bool = False) -> Path:
    """The spool as SIGKILL leaves it in step `number`, each step having a checkpoint, the store being away after that of step `stored`.

    `while_writing`: the checkpoint after that step."""
    store = trainer.store = Refusing(trainer.store.root)
    store.transient = True
    dead = trainer.spools.with_name("dead")
    names = []

    def step(network: NumpyNetwork) -> None:
        if network.number == stored + 1:
            wait_until(lambda: trainer.checkpoints[:1] == [stored] and not checkpoints(spools(trainer)[0]))
            store.parts = ("checkpoints", "attempts")
        if network.number == number:
            (spool,) = spools(trainer)
            wait_until(lambda: all((folder / "MANIFEST.json").exists() for folder in checkpoints(spool)[1:]))
            shutil.copytree(spool, dead)
            names.append(spool.name)
            raise ZeroDivisionError  # as far as this process can be killed and go on

    def write(network: NumpyNetwork) -> None:
        if while_writing and network.number == number:
            (spool,) = spools(trainer)
            (unfinished,) = spool.glob("*/unfinished")
            (unfinished / "model.safetensors").write_bytes(b"the first bytes")
            step(network)

    with pytest.raises(ZeroDivisionError):
        trainer.attempt(
            options={"checkpoint_steps": 1, "flush_timeout": 0.0},
            before_step=lambda network: None if while_writing and network.number == number else step(network),
            before_weights=write,
        )
    for folder in spools(trainer):
        shutil.rmtree(folder)
    store.parts = ()
    (attempt,) = store.folders("r/attempts/")
    store.delete(f"r/attempts/{attempt}/end.json")  # a process that is killed writes none
    return dead.rename(trainer.spools / names[0])


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_next_attempt_goes_on_from_a_dead_ones_spool(undisturbed: Trainer, trainer: Trainer) -> None:
    """All that the store did not take before the kill."""
    dead = kill(trainer, STEPS + 3, stored=2)
    assert [int(folder.name[5:13]) for folder in checkpoints(dead)] == [8, 7, 6, 5, 4, 3]
    assert trainer.attempt() is Exit.DONE
    assert f"continues from step {STEPS + 2} of {3 * STEPS} (checkpoint step-00000008-0001-" in trainer.log.text
    assert trainer.trained == undisturbed.trained
    assert "was left on this disk by an attempt that could not deliver it" in trainer.log.text
    assert spools(trainer) == []


def test_it_is_delivered_though_the_next_attempt_stores_nothing_new(trainer: Trainer) -> None:
    kill(trainer, STEPS + 3, stored=2)

    def broken(network: NumpyNetwork) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trainer.attempt(before_step=broken)
    assert trainer.checkpoints[0] == STEPS + 2
    assert spools(trainer) == []


def test_half_a_checkpoint_is_none(undisturbed: Trainer, trainer: Trainer) -> None:
    dead = kill(trainer, STEPS + 3, stored=2, while_writing=True)
    assert list(dead.glob("*/unfinished"))
    assert trainer.attempt() is Exit.DONE
    assert f"continues from step {STEPS + 2} " in trainer.log.text
    assert trainer.trained == undisturbed.trained
    assert spools(trainer) == []


@pytest.mark.parametrize("where", ["model.safetensors", "MANIFEST.json"])
def test_what_does_not_verify_is_left_out(undisturbed: Trainer, trainer: Trainer, where: str) -> None:
    """One bit of the newest one, then the next older one is taken."""
    newest = checkpoints(kill(trainer, STEPS + 3, stored=2))[0]
    if not (newest / "MANIFEST.json").exists():
        newest = checkpoints(newest.parents[2])[1]
        shutil.rmtree(checkpoints(newest.parents[2])[0])
    data = bytearray((newest / where).read_bytes())
    data[-100] ^= 1
    (newest / where).write_bytes(data)
    assert trainer.attempt() is Exit.DONE
    assert f"checkpoint {newest.name} in {newest} is left out: " in trainer.log.text
    assert f"continues from step {int(newest.name[5:13]) - 1} " in trainer.log.text
    assert trainer.trained == undisturbed.trained


def test_a_checkpoint_without_digests_has_to_be_whole(trainer: Trainer) -> None:
    """Killed in the moment after it was written: it is taken if its files can be read to their ends."""
    first, second = checkpoints(kill(trainer, STEPS + 3, stored=2))[:2]
    for folder in (first, second):
        (folder / "MANIFEST.json").unlink(missing_ok=True)
    with (first / "optimizer.safetensors").open("r+b") as file:
        file.truncate((first / "optimizer.safetensors").stat().st_size - 8)
    assert trainer.attempt() is Exit.DONE
    assert "is left out: it is not whole" in trainer.log.text
    assert f"(checkpoint {second.name}" in trainer.log.text


def test_a_store_that_is_further_wins(trainer: Trainer) -> None:
    dead = kill(trainer, STEPS + 3, stored=2)
    elsewhere = dead.rename(trainer.spools.with_name("elsewhere"))
    assert trainer.attempt(options={"checkpoint_steps": 1}, before_step=at_step(STEPS + 5, terminate)) is Exit.TERMINATED
    elsewhere.rename(dead)
    assert trainer.attempt() is Exit.DONE
    assert f"continues from step {STEPS + 5} " in trainer.log.text
    assert spools(trainer) == [], "what is older is of no worth"


def test_what_belongs_to_another_run_stays(trainer: Trainer) -> None:
    """Of a run whose name begins alike, of one of the same name in another place, and of a living process."""
    mine = kill(trainer, STEPS + 3, stored=2)
    stem, _, nonce = mine.name.rpartition("-")
    others = [mine.with_name(f"{TMP}r-x-{stem.rpartition('-')[2]}-{nonce}"), mine.with_name(f"{TMP}r-00000000-{nonce}"), mine]
    for other in others[:2]:
        shutil.copytree(mine, other)
    with (mine / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert trainer.attempt() is Exit.DONE
    assert "continues from step 2 " in trainer.log.text
    assert spools(trainer) == sorted(others)
    assert all(len(checkpoints(other)) == 6 for other in others)


TMP = ".tmp-spool-"


def test_undelivered_results_are_taken_up_too(undisturbed: Trainer, trainer: Trainer) -> None:
    """What `alexnet sync` was to deliver: the checkpoints at once, the rest stays until the run has a summary."""
    store = trainer.store = Refusing(trainer.store.root)
    store.transient = True

    def away() -> None:
        store.parts = ("checkpoints", "attempts", "final", "summary")

    with pytest.raises(JobError, match="did not take all results within 0 s"):
        trainer.attempt(options={"flush_timeout": 0.0}, before_step=at_step(2 * STEPS, away))
    assert json.loads((trainer.undelivered() / "r" / "summary.json").read_text())["steps"] == 3 * STEPS
    store.parts = ()
    with pytest.raises(ZeroDivisionError):
        trainer.attempt(before_logits=lambda _: 1 / 0)
    assert trainer.checkpoints[0] == 3 * STEPS
    assert (trainer.undelivered() / "r" / "summary.json").exists()
    assert trainer.attempt() is Exit.DONE
    assert trainer.trained == undisturbed.trained
    assert spools(trainer) == []


def test_a_finished_run_leaves_nothing(trainer: Trainer, undisturbed: Trainer) -> None:
    """Also where another node finished it."""
    dead = kill(trainer, STEPS + 3, stored=2)
    elsewhere = dead.rename(trainer.spools.with_name("elsewhere"))
    assert trainer.attempt() is Exit.DONE
    elsewhere.rename(dead)
    options = Options(engine="numpy", data="tints", seed=5, output=str(trainer.store.root), run_id="r", spool=trainer.spools)
    assert start.train(RECIPE, options, StopSignal(1.0), trainer.log) is Exit.DONE
    assert "is finished" in trainer.log.text
    assert spools(trainer) == []
