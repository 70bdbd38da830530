"""The loop and every way out of it, in this process: a NumPy engine, a folder as store, real signals."""

import errno
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from job.core.exits import Exit, JobError
from job.core.records import EpochLine
from job.runs.checkpoint import CHECKPOINT_FILES
from job.runs.sync import sync
from job.storage.files import encoded
from job.storage.folder import FolderStore
from job.storage.manifest import Manifest
from job.training import start
from job.training.options import Options
from job.training.progress import Progress
from job.training.stopping import Stopped, StopSignal
from tests.support.numpy_engine import NumpyNetwork
from tests.support.records import entry
from tests.support.trainer import RECIPE, STEPS, Log, Refusing, Trainer, at_step, once, terminate


def test_a_run_from_its_claim_to_its_end(undisturbed: Trainer) -> None:
    summary, end = undisturbed.summary, undisturbed.end
    assert (summary["epochs"], summary["steps"], summary["engine"], summary["seed"]) == (3, 18, "numpy", 5)
    assert summary["test_accuracy"] > 0.5, "the NumPy engine learns"
    assert (end["exit_code"], end["reason"], end["step"], end["epoch"]) == (0, "finished", 18, 3)
    assert undisturbed.log.steps == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert undisturbed.checkpoints == [18, 12], "the newest two stay"
    assert "finished: test accuracy" in undisturbed.log.lines[-1]
    assert not list(undisturbed.spools.iterdir()), "nothing is left in the spool"


def test_an_interrupted_run_has_the_same_bytes(undisturbed: Trainer, trainer: Trainer) -> None:
    """A signal in a step, in an evaluation, and while a checkpoint is written, one after the other."""
    assert trainer.attempt(before_step=at_step(3, terminate)) is Exit.TERMINATED
    assert trainer.checkpoints == [3], "the very step"
    assert trainer.attempt(before_logits=once(terminate)) is Exit.TERMINATED
    assert trainer.checkpoints == [6, 3], "the epoch's steps, not yet evaluated"
    assert f"continues from step 3 of {3 * STEPS} (checkpoint step-00000003-0001-" in trainer.log.text
    assert trainer.attempt(options={"checkpoint_steps": 4}, before_weights=once(terminate, after=1)) is Exit.TERMINATED
    assert (trainer.checkpoints[0], trainer.end["epoch"]) == (8, 1), "after the one at the end of the epoch"
    assert trainer.attempt() is Exit.DONE
    assert trainer.trained == undisturbed.trained
    assert trainer.contributions == [(1, 1, 3), (2, 4, 6), (3, 7, 8), (4, 9, 18)]


def test_images_grow_and_an_interrupted_run_has_the_same_bytes(trainer: Trainer, tmp_path: Path) -> None:
    """Cut at the smaller size, between the sizes, and at the larger one."""
    growing, whole = replace(RECIPE, progressive_resizing="63:0.4"), Trainer(tmp_path / "whole")
    assert whole.attempt(growing) is Exit.DONE
    lines = (whole.store.root / "r" / "final" / whole.summary["attempt"] / "metrics.jsonl").read_text().splitlines()
    assert [line["image_size"] for line in map(json.loads, lines) if line["kind"] == "interval"] == [63] * 3 + [64] * 6
    assert [line["image_size"] for line in map(json.loads, lines) if line["kind"] == "epoch"] == [63, 64, 64]
    said = [line for line in whole.log.lines if "pixels" in line]
    assert said[0] == "epoch 1: the training images have 63 pixels from now on"
    assert said[2] == "epoch 2: the training images have 64 pixels from now on"
    assert said[3].endswith("images/s at 64 pixels")
    for step in (3, STEPS, STEPS + 1):
        assert trainer.attempt(growing, before_step=at_step(step, terminate)) is Exit.TERMINATED
    assert trainer.attempt(growing) is Exit.DONE
    assert trainer.trained == whole.trained
    assert [first for _, first, _ in trainer.contributions] == [1, 4, STEPS + 1, STEPS + 2]


def test_steps_count_for_the_attempt_whose_steps_led_to_the_result(trainer: Trainer) -> None:
    """Those that an attempt took after its last checkpoint are lost with it; one that takes no step evaluates, in a place of its own."""
    with pytest.raises(ZeroDivisionError):
        trainer.attempt(before_step=at_step(STEPS + 4, lambda: 1 / 0))
    assert trainer.attempt(options={"checkpoint_steps": 4}, before_step=at_step(3 * STEPS, terminate)) is Exit.TERMINATED
    for folder in (trainer.store.root / "r" / "checkpoints").glob("step-00000006-*"):
        shutil.rmtree(folder)  # as retention would
    assert trainer.attempt() is Exit.DONE
    assert trainer.contributions == [(1, 1, 6), (2, 7, 18), (3, 19, 18)]
    (claim,) = (trainer.store.root / "r" / "attempts").glob("0002-*/claim.json")
    assert trainer.summary["contributions"][1].items() >= json.loads(claim.read_text()).items()


def test_a_checkpoint_of_an_older_version(trainer: Trainer) -> None:
    """It does not tell whose its steps are: they count for who wrote it."""
    assert trainer.attempt(before_step=at_step(3, terminate)) is Exit.TERMINATED
    (folder,) = (trainer.store.root / "r" / "checkpoints").iterdir()
    state = json.loads((folder / "state.json").read_text())
    del state["contributions"]
    (folder / "state.json").write_bytes(encoded(state))
    (folder / "MANIFEST.json").write_bytes(Manifest.of_folder(folder, [folder / name for name in CHECKPOINT_FILES]).encode())
    assert trainer.attempt() is Exit.DONE
    assert trainer.contributions == [(1, 1, 3), (2, 4, 18)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, Exit.NOT_STORED), (signal.SIGINT, Exit.INTERRUPTED)])
def test_a_signal_before_any_progress(trainer: Trainer, number: int, code: Exit, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the weights are loaded: there is nothing yet to store."""
    monkeypatch.setattr(NumpyNetwork, "load", lambda *_: signal.raise_signal(number))
    assert trainer.attempt() is code
    assert trainer.end["exit_code"] == code
    assert trainer.checkpoints == []
    assert "nothing new was stored" in trainer.log.text


def test_an_impatient_ctrl_c_has_a_message_and_an_end(trainer: Trainer) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    assert trainer.attempt(before_step=at_step(STEPS + 2, twice)) is Exit.INTERRUPTED
    assert (trainer.end["exit_code"], trainer.end["reason"]) == (130, "stopped by a second Ctrl-C")
    assert "stopped by a second Ctrl-C: " in trainer.log.lines[-1]
    assert "--run-id r" in trainer.log.lines[-1]


def test_a_closed_terminal(undisturbed: Trainer, trainer: Trainer) -> None:
    """SIGHUP is SIGTERM by another name, unless the run was started under nohup."""
    assert trainer.attempt(before_step=at_step(3, lambda: signal.raise_signal(signal.SIGHUP))) is Exit.TERMINATED
    assert (trainer.checkpoints, trainer.end["reason"]) == ([3], "stopped by SIGHUP")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert trainer.attempt(before_step=at_step(4, lambda: signal.raise_signal(signal.SIGHUP))) is Exit.DONE
    assert trainer.trained == undisturbed.trained


def test_a_spool_without_file_locks(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("job.runs.leftovers.fcntl.flock", refuse)
    with pytest.raises(JobError, match=r"--spool .*/spools: its file system has no file locks \(flock: No locks available\)") as caught:
        trainer.attempt()
    assert (caught.value.code, trainer.end["exit_code"]) == (Exit.CONFIGURATION, Exit.CONFIGURATION)
    assert not list(trainer.spools.iterdir())


def test_a_signal_before_the_claim(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderStore, "now", lambda _: terminate())
    with pytest.raises(Stopped):
        trainer.attempt()
    assert trainer.store.list() == []


def test_a_divergence(trainer: Trainer) -> None:
    def poison(network: NumpyNetwork) -> None:
        if network.number == STEPS + 4:
            network.parameters[network.head[1]][...] = np.nan

    with pytest.raises(JobError, match=f"step {STEPS + 4}: the loss is nan, so the training has diverged") as caught:
        trainer.attempt(before_step=poison)
    assert (caught.value.code, trainer.end["exit_code"]) == (Exit.DIVERGED, Exit.DIVERGED)
    assert trainer.checkpoints == [STEPS], "the last checkpoint before it"
    assert f"The checkpoint of step {STEPS}, from before it, is stored." in str(caught.value)
    assert not list(trainer.spools.iterdir())


def test_a_divergence_that_only_the_test_set_shows(trainer: Trainer) -> None:
    def poison(network: NumpyNetwork) -> None:
        network.parameters[network.head[1]][...] = np.inf

    with pytest.raises(JobError, match="the test loss is nan") as caught:
        trainer.attempt(before_logits=poison)
    assert caught.value.code is Exit.DIVERGED
    assert "checkpoint" not in str(caught.value), "there is none"


def test_a_store_that_refuses(undisturbed: Trainer, trainer: Trainer) -> None:
    """The state in memory goes to the disk as well, `alexnet sync` delivers it, and the run goes on from there."""
    trainer.store = store = Refusing(trainer.store.root)
    store.refused = threading.Event()

    def refuse(network: NumpyNetwork) -> None:
        if network.number == 3:
            store.parts = ("checkpoints",)
        if network.number == STEPS + 2:
            assert store.refused.wait(60), "the first epoch's checkpoint"
        if network.number > STEPS + 2:
            time.sleep(0.05)  # the loop learns of it after a step

    text = r"refused\. The store has refused for 0 s \(--flush-timeout\)\. Not stored: .*step-000000\d\d-0001.*`alexnet sync"
    with pytest.raises(JobError, match=text) as caught:
        trainer.attempt(options={"flush_timeout": 0.0}, before_step=refuse)
    assert caught.value.code is Exit.NOT_STORED, "a store that has taken the claim is configured right: the Job is to try again"
    assert trainer.checkpoints == []
    store.parts = ()
    sync(trainer.undelivered(), store, trainer.log.say)
    assert trainer.checkpoints[0] >= STEPS, "more than the first epoch's checkpoint, which was refused"
    assert trainer.attempt() is Exit.DONE
    assert "continues from step" in trainer.log.text
    assert trainer.trained == undisturbed.trained


def test_a_store_that_is_away_at_the_end(undisturbed: Trainer, trainer: Trainer) -> None:
    trainer.store = store = Refusing(trainer.store.root)
    store.transient = True

    def away() -> None:
        store.parts = ("checkpoints", "attempts", "final", "summary")

    text = r"did not take all results within 1 s \(--flush-timeout\)\. It said last: .*: refused\. Not stored: .*r/summary\.json"
    with pytest.raises(JobError, match=text) as caught:
        trainer.attempt(options={"flush_timeout": 1.0}, before_step=at_step(3 * STEPS - 1, away))
    assert caught.value.code is Exit.NOT_STORED
    store.parts = ()
    sync(trainer.undelivered(), store, trainer.log.say)
    assert trainer.trained == undisturbed.trained


def test_what_is_left_in_a_pod_is_lost_with_it(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can run `alexnet sync` there: the message says on what it depends."""
    monkeypatch.setenv("ALEXNET_POD", "train-x7")
    trainer.store = store = Refusing(trainer.store.root)

    def refuse() -> None:
        store.parts = ("checkpoints",)

    with pytest.raises(JobError, match="lost with the pod train-x7 unless --spool is on a volume that outlives it") as caught:
        trainer.attempt(options={"flush_timeout": 0.0}, before_step=at_step(3, refuse))
    assert "alexnet sync" not in str(caught.value)


def test_a_newer_attempt(trainer: Trainer) -> None:
    def take_over() -> None:
        trainer.store.put("r/attempts/0002-ffffff/claim.json", b"{}")

    with pytest.raises(JobError, match="attempt 0002-ffffff took over") as caught:
        trainer.attempt(before_step=at_step(STEPS + 1, take_over))
    assert caught.value.code is Exit.SUPERSEDED
    assert not list(trainer.spools.glob("alexnet-kept-*")), "what a newer attempt works on is nobody's to deliver"
    assert trainer.attempt() is Exit.DONE
    assert not list(trainer.spools.iterdir())


def test_another_attempt_finishes_first(undisturbed: Trainer, trainer: Trainer) -> None:
    def finish() -> None:
        trainer.store.put("r/summary.json", undisturbed.store.get("r/summary.json"))

    with pytest.raises(JobError, match="another attempt finished it") as caught:
        trainer.attempt(before_step=at_step(STEPS + 1, finish))
    assert caught.value.code is Exit.DONE


def test_an_internal_error(trainer: Trainer) -> None:
    with pytest.raises(ZeroDivisionError):
        trainer.attempt(before_step=at_step(STEPS + 1, lambda: 1 / 0))
    assert (trainer.end["exit_code"], trainer.end["reason"]) == (70, "internal error: ZeroDivisionError")
    assert trainer.checkpoints == [STEPS]


def test_the_best_checkpoint_is_the_result(trainer: Trainer) -> None:
    """From the second epoch on the classifier is spoilt, so the first one is the best; also where it was found by another attempt."""
    recipe = RECIPE.with_values({"validation": 10, "batch_size": 4})  # ten steps an epoch

    def spoil(network: NumpyNetwork) -> None:
        if network.number > 10:
            network.parameters[network.head[1]][...] = [100.0, *[0.0] * 9]

    def stop_or_spoil(network: NumpyNetwork) -> None:
        spoil(network)
        if network.number == 15:
            terminate()

    assert trainer.attempt(recipe, before_step=stop_or_spoil) is Exit.TERMINATED
    assert trainer.attempt(recipe, before_step=spoil) is Exit.DONE
    assert trainer.summary["model"].startswith("checkpoints/step-00000010-0001-")
    summary = trainer.summary
    assert summary["test_accuracy"] > 0.3, "of the best weights, not of the last"
    lines = (trainer.store.root / "r" / "final" / summary["attempt"] / "metrics.jsonl").read_text().splitlines()
    first = next(line for line in map(json.loads, lines) if line["kind"] == "epoch")
    assert (summary["model_epoch"], summary["epochs"]) == (1, 3)
    for figure in ("train_accuracy", "validation_accuracy", "test_accuracy"):
        assert summary[figure] == first[figure], figure
    assert f"all after epoch 1, chosen by the validation images ({first['validation_accuracy']:.2%})" in trainer.log.lines[-1]
    assert f"validation accuracy {first['validation_accuracy']:.2%}" not in trainer.log.lines[-1]
    assert trainer.checkpoints == [30, 20, 10], "the best one stays"


def test_a_checkpoint_of_a_newer_version(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """78, not a step back to an older one, and the image to use."""
    monkeypatch.setenv("ALEXNET_IMAGE", "alexnet:2.0")
    assert trainer.attempt(before_step=at_step(3, terminate)) is Exit.TERMINATED
    folder = trainer.store.root / f"r/checkpoints/{trainer.run.checkpoint_names()[0]}"
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "format": 2, "progress": {"unknown": 1}}))
    listed = {path.name: entry(path.read_bytes()) for path in folder.iterdir() if path.name != "MANIFEST.json"}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": listed}))
    with pytest.raises(JobError, match=r"state\.json was written by a newer version.*its format is 2.*image is alexnet:2\.0") as caught:
        trainer.attempt()
    assert (caught.value.code, trainer.end["exit_code"]) == (Exit.CONFIGURATION, Exit.CONFIGURATION)


def test_records_of_other_attempts_that_are_damaged(undisturbed: Trainer, trainer: Trainer) -> None:
    """They end nothing: no result rests on them."""
    assert trainer.attempt(before_step=at_step(3, terminate)) is Exit.TERMINATED
    attempt = trainer.end["attempt"]
    for name in ("end.json", "claim.json", "resources-0001.jsonl"):
        trainer.store.put(f"r/attempts/{attempt}/{name}", b'{"gpus": ' * 100_000)
    assert trainer.attempt() is Exit.DONE
    assert trainer.trained == undisturbed.trained


def test_not_learning_is_said(trainer: Trainer) -> None:
    assert trainer.attempt(RECIPE.with_values({"learning_rate": 1e-9})) is Exit.DONE
    assert "not learning: after epoch 2 the loss is still 2.3" in trainer.log.text


def test_a_smoothed_loss_that_stays_high_is_no_lack_of_learning(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loss is that of a guess, but the test images are told apart."""
    before = Progress.end_epoch

    def end_epoch(progress: Progress, line: EpochLine) -> None:
        before(progress, {**line, "train_loss": 2.4})

    monkeypatch.setattr(Progress, "end_epoch", end_epoch)
    assert trainer.attempt() is Exit.DONE
    assert trainer.summary["test_accuracy"] > 0.5
    assert "not learning" not in trainer.log.text


@pytest.mark.parametrize(
    ("values", "text"), [({"validation": 50}, "expected fewer than the 50 training images"), ({"batch_size": 51}, "Choose a smaller batch")]
)
def test_more_than_there_is(trainer: Trainer, values: dict[str, Any], text: str) -> None:
    with pytest.raises(JobError, match=text) as caught:
        trainer.attempt(RECIPE.with_values(values))
    assert caught.value.code is Exit.USAGE
    assert trainer.store.list() == []


def test_every_line_has_its_time_and_the_log_says_how_long_it_takes(undisturbed: Trainer) -> None:
    root = undisturbed.store.root / "r"
    lines = [json.loads(line) for line in (root / "final" / undisturbed.summary["attempt"] / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert time.time() - 600 < times[0]
    assert times[-1] <= time.time()
    left = undisturbed.log.seconds_left
    assert left[-1] == 0
    assert all(0 < seconds < 600 for seconds in left[:-1])


def test_tensorboard_finds_events_while_a_run_works_and_after_it_was_cut(trainer: Trainer) -> None:
    def live() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in (trainer.store.root / "r").glob(".tmp-*.tfevents")}

    seen: list[dict[str, int]] = []
    with pytest.raises(ZeroDivisionError):
        trainer.attempt(before_step=lambda network: seen.append(live()) if network.number < 8 else 1 / 0)
    assert seen[:2] == [{}, {}]
    sizes = [size for files in seen[2:] for size in files.values()]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3, "the file grew with each interval, and with the epoch"
    (cut,) = live()
    assert trainer.attempt(before_step=lambda network: seen.append(live())) is Exit.DONE
    assert cut not in seen[-1], "the newer attempt has written all lines of the run anew"
    assert len(seen[-1]) == 1
    assert live() == {}, "final/ holds them now"
    assert not [entry.key for entry in trainer.store.list("r/") if "tmp" in entry.key]


def test_a_long_wait_says_what_it_is_for(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.training.waiting.PATIENCE", 0.05)
    said = threading.Event()
    monkeypatch.setattr(Log, "say", lambda _, line, **facts: said.set() if line == "still evaluating 40 images" else None)
    assert trainer.attempt(before_logits=once(lambda: said.wait(60))) is Exit.DONE
    assert said.is_set()


def test_what_cannot_work_is_found_before_a_framework_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "find_engine", lambda *_, **__: pytest.fail("the framework was loaded"))
    given = Options(data="digits", output=str(tmp_path / "runs"), run_id="r", cache=tmp_path)
    with pytest.raises(JobError, match="Choose a smaller batch"):
        start.train(RECIPE.with_values({"batch_size": 5000}), given, StopSignal(1.0), log := Log())
    with pytest.raises(JobError, match="there is no such file"):
        start.train(RECIPE, replace(given, init_from="/nowhere.pth"), StopSignal(1.0), log)
    assert log.lines == [], "nothing was promised"
    assert not (tmp_path / "runs").exists()


def test_two_jobs_on_one_run(undisturbed: Trainer, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pods of the second one find the first one's pod alive, and leave it alone."""
    monkeypatch.setattr("job.runs.heartbeat.SECONDS", 0.05)
    monkeypatch.setattr("job.runs.taking_over.POLL", 0.01)
    second = Trainer(trainer.store.root.parent)
    codes = []

    def intrude() -> None:
        monkeypatch.setenv("ALEXNET_JOB", "second")
        for _ in range(2):
            with pytest.raises(JobError, match="of the Job n/first is at work on it, so this Job, n/second, leaves it alone") as caught:
                second.attempt()
            codes.append(caught.value.code)

    monkeypatch.setenv("ALEXNET_NAMESPACE", "n")
    monkeypatch.setenv("ALEXNET_JOB", "first")
    assert trainer.attempt(before_step=at_step(STEPS, intrude)) is Exit.DONE
    assert codes == [Exit.SUPERSEDED] * 2, "counted against the second one's retries"
    assert trainer.trained == undisturbed.trained


@pytest.mark.parametrize(("minutes", "stored", "reads"), [(0.0, [10], 2), (0.5, [3, 6, 9, 10], 5)])
def test_checkpoints_by_time(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, minutes: float, stored: list[int], reads: int) -> None:
    """Each step takes 10 s by a clock of its own.  The device is read for a checkpoint, never for the clock: twice without."""
    clock, found, counted = [time.monotonic()], [], []
    monkeypatch.setattr("job.training.checkpointer.time", SimpleNamespace(monotonic=lambda: clock[0]))
    read = NumpyNetwork.read
    monkeypatch.setattr(NumpyNetwork, "read", lambda network: counted.append(network.number) or read(network))

    def tick(network: NumpyNetwork) -> None:
        clock[0] += 10

    recipe, options = RECIPE.with_values({"epochs": 1, "batch_size": 5}), {"checkpoint_minutes": minutes, "log_steps": 1000}
    assert trainer.attempt(recipe, options, before_step=tick, before_weights=lambda network: found.append(network.number)) is Exit.DONE
    assert (found, len(counted)) == (stored, reads)
