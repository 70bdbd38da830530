"""A store that says no after it said yes: an expired token, a policy in the making.  One such answer must not end a Job for good."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from job.core.exits import Exit, JobError
from job.storage.errors import StoreError
from job.storage.folder import FolderStore
from tests.support.trainer import STEPS, Trainer, at_step, terminate


class Moody(FolderStore):
    """Refuses what `refuses(operation, key)` says."""

    refuses: Callable[[str, str], bool] = staticmethod(lambda operation, key: False)
    code = Exit.CONFIGURATION

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.refused = Counter[str]()

    def put(self, key: str, data: bytes | Path) -> None:
        self._ask("put", key)
        super().put(key, data)

    def move(self, path: Path, key: str) -> None:
        self._ask("put", key)
        super().move(path, key)

    def delete(self, key: str) -> None:
        self._ask("delete", key)
        super().delete(key)

    def _create(self, key: str, data: bytes) -> bool:
        self._ask("put", key)
        return super()._create(key, data)

    def _copy(self, key: str, file: BinaryIO) -> None:
        self._ask("get", key)
        super()._copy(key, file)

    def _ask(self, operation: str, key: str) -> None:
        if self.refuses(operation, key):
            self.refused[operation] += 1
            raise StoreError(self.code, f"{key}: access denied (403).")


@pytest.fixture
def store(trainer: Trainer) -> Moody:
    trainer.store = store = Moody(trainer.store.root)
    return store


def once(wanted: str, part: str) -> Callable[[str, str], bool]:
    """Refuses the first such operation on a key with this part."""
    left = iter([True])
    return lambda operation, key: operation == wanted and part in key and next(left, False)


@pytest.mark.parametrize("part", ["/checkpoints/", "/predictions.npz", "/resources-", "/summary.json"])
def test_one_refused_put_costs_nothing(undisturbed: Trainer, trainer: Trainer, store: Moody, part: str) -> None:
    store.refuses = once("put", part)
    assert trainer.attempt() is Exit.DONE
    assert store.refused["put"] == 1
    assert trainer.trained == undisturbed.trained


def test_one_refused_get_costs_nothing(undisturbed: Trainer, trainer: Trainer, store: Moody) -> None:
    """Of the checkpoint from which the run goes on."""
    assert trainer.attempt(before_step=at_step(STEPS + 2, terminate)) is Exit.TERMINATED
    store.refuses = once("get", "/model.safetensors")
    assert trainer.attempt() is Exit.DONE
    assert store.refused["get"] == 1
    assert trainer.trained == undisturbed.trained


@pytest.mark.parametrize(("code", "told"), [(Exit.CONFIGURATION, Exit.NOT_STORED), (Exit.DEVICE, Exit.DEVICE)])
def test_refusals_for_longer_than_the_timeout_are_counted(trainer: Trainer, store: Moody, code: Exit, told: Exit) -> None:
    """Neither 74 nor 71, for a clock that is wrong, makes Kubernetes give up the Job."""
    store.code = code
    store.refuses = lambda operation, key: operation == "put" and "/checkpoints/" in key
    with pytest.raises(JobError, match=r"access denied \(403\).*`alexnet sync") as caught:
        trainer.attempt(options={"flush_timeout": 0.5})
    assert caught.value.code is told
    assert trainer.end["exit_code"] == told


def test_a_refusal_before_the_claim_is_a_wrong_configuration(trainer: Trainer, store: Moody) -> None:
    store.refuses = lambda operation, key: operation == "put"
    with pytest.raises(JobError) as caught:
        trainer.attempt()
    assert caught.value.code is Exit.CONFIGURATION
    store.refuses = lambda operation, key: operation == "put" and key.endswith("/claim.json")
    with pytest.raises(JobError) as caught:
        trainer.attempt()
    assert caught.value.code is Exit.CONFIGURATION


def test_a_key_that_may_not_delete(undisturbed: Trainer, trainer: Trainer, store: Moody) -> None:
    """It is said once."""
    store.refuses = lambda operation, key: operation == "delete"
    assert trainer.attempt(options={"checkpoint_steps": 2}) is Exit.DONE
    assert store.refused["delete"] > 1
    assert trainer.log.text.count("old checkpoints are not deleted, and take up room") == 1
    assert len(trainer.checkpoints) == 3 * STEPS / 2
    assert trainer.trained == undisturbed.trained
