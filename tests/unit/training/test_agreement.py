"""What is asked for against what a run is: another configuration, another engine, other weights, and two attempts at the same moment."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from job.core.exits import Exit, JobError
from job.core.identity_records import ARITHMETIC
from job.core.recipe import Recipe
from job.data.cifar_binary import binary_files
from job.runs.pretrained import fetch_weights
from job.runs.run import Run
from job.training import start
from job.training.agreement import settle
from job.training.options import Options
from job.training.stopping import StopSignal
from tests.support.numpy_engine import NumpyEngine
from tests.support.trainer import DATA, RECIPE, STEPS, Log, Trainer, at_step, terminate


class Command:
    """`alexnet train` for the run `r` in a folder, its data and its framework replaced."""

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.trainer, self.data = trainer, folder / "tints"
        self.data.mkdir()
        for name, content in binary_files(DATA):
            (self.data / name).write_bytes(content)
        self.cache = folder / "cache"

    def __call__(self, recipe: Recipe = RECIPE, **changed: Any) -> Exit:
        self.log = Log()
        given = {"engine": "numpy", "data": str(self.data), "seed": 5, "run_id": "r", "cache": self.cache, "spool": self.trainer.spools}
        options = Options(**{"output": str(self.trainer.store.root), **given, **changed})
        return start.train(recipe, options, StopSignal(20.0), self.log)

    def refused(self, recipe: Recipe = RECIPE, **changed: Any) -> str:
        """The message."""
        with pytest.raises(JobError) as caught:
            self(recipe, **changed)
        assert caught.value.code is Exit.CONFIGURATION, caught.value
        return str(caught.value)


@pytest.fixture
def command(tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(start, "find_engine", lambda name, device, gpu: NumpyEngine(name=name))
    return Command(tmp_path, trainer)


@pytest.fixture
def finished(command: Command) -> Iterator[Command]:
    """Nothing of what is asked of it then changes anything."""
    assert command() is Exit.DONE
    before = {entry.key: entry.modified for entry in command.trainer.store.list()}
    yield command
    assert {entry.key: entry.modified for entry in command.trainer.store.list()} == before


def test_a_finished_run_asked_for_again(finished: Command) -> None:
    assert finished() is Exit.DONE
    assert "nothing to do. Results: " in finished.log.text
    assert finished(RECIPE.with_values({"precision": "auto"})) is Exit.DONE, "which the machine decides"
    shutil.copytree(finished.data, copy := finished.data.with_name("copy"))
    assert finished(data=str(copy)) is Exit.DONE, "the same images by another name"
    shutil.rmtree(finished.data)
    assert finished() is Exit.DONE
    assert "nothing to do (compared with what is asked for: the data by their name only)" in finished.log.text


def test_a_finished_run_asked_for_as_another(finished: Command) -> None:
    """Each of these would be another run, so 'nothing to do' would be a lie."""
    assert "is finished with another configuration (engine: 'numpy' stored, 'other' asked for)" in finished.refused(engine="other")
    assert finished(engine="other", continue_in_other_engine=True) is Exit.DONE
    assert "(seed: 5 stored, 6 asked for)" in finished.refused(seed=6)
    recipe = RECIPE.with_values({"epochs": 4, "momentum": 0.5})
    assert "(epochs: 3 stored, 4 asked for; momentum: 0.9 stored, 0.5 asked for)" in finished.refused(recipe)
    assert "data fingerprint: '" in finished.refused(data="digits")
    assert "data fingerprint: '" in finished.refused(subset=40)
    shutil.rmtree(finished.data)
    assert "(data: 'tints' stored, 'tints[:40]' asked for)" in finished.refused(subset=40)
    assert "(data: 'tints' stored, 'other' asked for)" in finished.refused(data="s3://bucket/other")
    assert "(data: 'tints' stored, 'cifar10' asked for)" in finished.refused(data="cifar10"), "without a download"


def test_an_unfinished_run_asked_for_as_another(command: Command) -> None:
    trainer = command.trainer
    assert trainer.attempt(before_step=at_step(3, terminate)) is Exit.TERMINATED
    assert "is already there with another configuration (seed: 5 stored, 6 asked for)" in command.refused(seed=6)
    assert "data fingerprint" in command.refused(subset=40)
    assert "precision: 'fp32' stored, 'bf16' asked for" in command.refused(RECIPE.with_values({"precision": "bf16"}))
    assert len(trainer.store.folders("r/attempts/")) == 1, "none was claimed"


def test_another_engine_is_refused_before_anything_is_touched(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running attempt must not be taken over by what then leaves."""
    trainer = command.trainer
    torch: dict[str, Any] = {"engine": "torch"}
    assert trainer.attempt(options=torch, before_step=at_step(3, terminate)) is Exit.TERMINATED
    with monkeypatch.context() as patch:
        patch.setattr(start.sources, "load", lambda *_, **__: pytest.fail("the data were read"))
        message = command.refused(engine="tensorflow")
    assert "run r was last trained by torch, and --engine tensorflow would go on with it" in message
    assert "--continue-in-other-engine" in message
    assert len(trainer.store.folders("r/attempts/")) == 1
    assert command(engine="tensorflow", continue_in_other_engine=True) is Exit.DONE
    assert [c["engine"] for c in trainer.summary["contributions"]] == ["torch", "tensorflow"]
    assert [(s["engine"], s["device"]) for s in trainer.summary["speeds"]] == [("torch", "cpu"), ("tensorflow", "cpu")]
    assert trainer.end["engine"] == "torch → tensorflow"
    assert "engine: 'tensorflow' stored, 'torch' asked for" in command.refused(engine="torch")


def test_another_engine_before_the_first_checkpoint(command: Command) -> None:
    """An attempt may be at work that has stored nothing yet."""
    with pytest.raises(ZeroDivisionError):
        command.trainer.attempt(options={"engine": "torch"}, before_step=at_step(3, lambda: 1 / 0))
    assert command.trainer.checkpoints == []
    assert "was last trained by torch" in command.refused(engine="tensorflow")


def test_a_checkpoint_of_another_engine_that_came_meanwhile(trainer: Trainer) -> None:
    """After the look at the run, and before the claim."""
    assert trainer.attempt(options={"engine": "torch"}, before_step=at_step(3, terminate)) is Exit.TERMINATED
    with pytest.raises(JobError, match="last trained by torch") as caught:
        trainer.attempt(options={"engine": "tensorflow"})
    assert caught.value.code is Exit.CONFIGURATION
    assert trainer.end["exit_code"] == Exit.CONFIGURATION
    assert trainer.attempt(options={"engine": "torch"}) is Exit.DONE


class Waiting(NumpyEngine):
    """Goes on only when both attempts have seen that there is no run."""

    def __init__(self, precision: str, barrier: threading.Barrier) -> None:
        super().__init__()
        self.precision, self.barrier = precision, barrier

    def resolve(self, precision: str) -> Any:
        self.barrier.wait(60)
        return self.precision


def test_two_attempts_that_begin_a_run_at_once_use_the_same_threads_and_precision(trainer: Trainer) -> None:
    barrier, log = threading.Barrier(2), Log()
    recipe = RECIPE.with_values({"precision": "auto"})

    def begin(threads: int, precision: str) -> dict[str, Any]:
        options = Options(engine="numpy", seed=5, threads=threads)
        initial = start.initial_state(recipe, 10, options, log)
        return dict(settle(Run(trainer.store, "r"), Waiting(precision, barrier), recipe, DATA, initial, options, log.say))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(begin, (2, 7), ("fp32", "bf16"))
    assert first == second == json.loads(trainer.store.get("r/run.json"))
    assert [line.split(":")[0] for line in log.lines] == [f"--threads {9 - first['threads']} is ignored"]


def test_the_engine_is_started_with_the_threads_of_the_run(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    monkeypatch.setattr(NumpyEngine, "start", lambda _, threads: started.append(threads))
    assert trainer.attempt(options={"threads": 2}, before_step=at_step(3, terminate)) is Exit.TERMINATED
    assert trainer.attempt(options={"threads": 4}, before_step=at_step(5, terminate)) is Exit.TERMINATED
    assert "--threads 4 is ignored: the run began with 2" in trainer.log.text
    assert trainer.attempt(options={"threads": None}) is Exit.DONE
    assert started == [2, 2, 2]
    assert "ignored" not in trainer.log.text


PRETRAINED = RECIPE.with_values({"pretrained": True})


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[int], Path]:
    """A file of weights, another one for each number."""

    def made(seed: int) -> Path:
        trainer = Trainer(tmp_path / f"source-{seed}")
        assert trainer.attempt(RECIPE.with_values({"epochs": 1, "learning_rate": 0.01 * seed})) is Exit.DONE
        return trainer.store.root / "r" / trainer.summary["model"]

    return made


def change(path: Path) -> Path:
    """Another file with other weights in its first layer."""
    data = bytearray(path.read_bytes())
    data[8 + int.from_bytes(data[:8], "little")] ^= 1
    other = path.with_name("other.safetensors")
    other.write_bytes(data)
    return other


def test_initial_weights_are_part_of_the_run(command: Command, weights: Callable[[int], Path], tmp_path: Path) -> None:
    trainer, first = command.trainer, str(weights(1))
    other = str(change(Path(first)))
    assert trainer.attempt(PRETRAINED, {"init_from": first}, before_step=at_step(3, terminate)) is Exit.TERMINATED
    record = json.loads(trainer.store.get("r/run.json"))
    assert len(record["init_from_sha256"]) == 64
    message = command.refused(PRETRAINED, init_from=other)
    assert f"--init-from weights: '{record['init_from_sha256']}' stored" in message
    assert command(PRETRAINED, init_from=first) is Exit.DONE
    assert "--init-from weights: " in command.refused(PRETRAINED, init_from=other)
    assert command(PRETRAINED, init_from=str(tmp_path / "gone.pth")) is Exit.DONE
    assert "--init-from not at all" in command.log.text


def test_weights_that_are_not_at_hand_are_fetched_for_a_run_without_a_checkpoint_only(
    trainer: Trainer, weights: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    first = weights(1)
    files = {"https://a/w.pth": first, "https://a/other.pth": change(first)}

    def fetch(source: str, *rest: Any) -> Path:
        fetched.append(source)
        return fetch_weights(str(files[source]), *rest)

    monkeypatch.setattr(start, "fetch_weights", fetch)
    given = {"init_from": "https://a/w.pth"}
    with pytest.raises(ZeroDivisionError):
        trainer.attempt(PRETRAINED, given, before_step=at_step(3, lambda: 1 / 0))
    assert fetched == ["https://a/w.pth"], "once"
    with pytest.raises(JobError, match="--init-from weights: "):
        trainer.attempt(PRETRAINED, {"init_from": "https://a/other.pth"})
    assert trainer.attempt(PRETRAINED, given, before_step=at_step(STEPS + 2, terminate)) is Exit.TERMINATED
    fetched.clear()
    assert trainer.attempt(PRETRAINED, given, before_step=at_step(STEPS + 3, terminate)) is Exit.TERMINATED
    assert (fetched, "--init-from is not fetched" in trainer.log.text) == ([], True)
    for path in (trainer.store.root / "r" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(b"damaged")
    with pytest.raises(JobError, match="these weights have the SHA-256"):
        trainer.attempt(PRETRAINED, {"init_from": "https://a/other.pth"})
    assert trainer.attempt(PRETRAINED, given) is Exit.DONE
    assert trainer.contributions == [(5, 1, 3 * STEPS)], "from the beginning again"


def test_the_digest_is_of_the_values(weights: Callable[[int], Path], tmp_path: Path) -> None:
    """Of all layers but the last, whatever file they come in."""
    first = weights(1)

    def digest(path: Path) -> str | None:
        return start.initial_state(PRETRAINED, 10, Options(init_from=str(path), cache=tmp_path), Log()).sha256

    renamed = tmp_path / "renamed.safetensors"
    shutil.copyfile(first, renamed)
    assert digest(renamed) == digest(first) != digest(change(first))
    last = bytearray(first.read_bytes())
    last[-1] ^= 1  # the bias of the last layer, or its weight
    renamed.write_bytes(last)
    assert digest(renamed) == digest(first)


def test_a_run_of_an_older_version_did_not_record_its_weights(trainer: Trainer, weights: Callable[[int], Path]) -> None:
    given = {"init_from": str(weights(1))}
    assert trainer.attempt(PRETRAINED, given, before_step=at_step(3, terminate)) is Exit.TERMINATED
    path = trainer.store.root / "r" / "run.json"
    record = json.loads(path.read_text())
    del record["init_from_sha256"]
    path.write_text(json.dumps(record))
    assert trainer.attempt(PRETRAINED, given) is Exit.DONE


@pytest.mark.parametrize(("recorded", "version"), [(None, "older"), (ARITHMETIC - 1, "older"), (ARITHMETIC + 1, "newer")])
def test_a_run_goes_on_under_its_own_arithmetic_only(trainer: Trainer, recorded: int | None, version: str) -> None:
    assert trainer.attempt(before_step=at_step(3, terminate)) is Exit.TERMINATED
    path = trainer.store.root / "r" / "run.json"
    record = json.loads(path.read_text())
    assert record.pop("arithmetic") == ARITHMETIC
    path.write_text(json.dumps(record if recorded is None else {**record, "arithmetic": recorded}))
    with pytest.raises(JobError) as caught:
        trainer.attempt()
    assert caught.value.code is Exit.CONFIGURATION
    message = str(caught.value)
    assert f"began under arithmetic {recorded or 1}, and this version of alexnet-job has arithmetic {ARITHMETIC}" in message
    assert f"Go on with the {version} version that began it, or give another --run-id" in message
    assert len(trainer.store.folders("r/attempts/")) == 1, "none was claimed"
