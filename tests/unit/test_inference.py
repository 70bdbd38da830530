"""`alexnet evaluate`: which data it takes, and what counts as agreement."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from job import inference
from job.cli.evaluate import verdict
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.runs.checkpoint import CheckpointName
from job.runs.run import Run
from job.storage.files import encoded
from job.storage.folder import FolderStore
from tests.support.records import entry, summary

MODEL = "checkpoints/step-00000010-0001-abcdef/model.safetensors"
IMAGES = 2_000


def record(name: str) -> dict[str, Any]:
    return {"data": {"name": name}}


def test_the_runs_own_data_cut_as_the_run_cut_them(tmp_path: Path) -> None:
    assert len(inference.test_set(record("digits"), None, cache=tmp_path).train) == 1442
    cut = inference.test_set(record("digits[:50]"), None, cache=tmp_path)
    assert (len(cut.train), len(cut.test), cut.name) == (50, 10, "digits[:50]")
    assert len(inference.test_set(record("mine[:50]"), "digits", cache=tmp_path).train) == 50


def test_data_that_no_name_leads_to(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="--data is missing") as caught:
        inference.test_set(record("my-pictures"), None, cache=tmp_path)
    assert caught.value.code is Exit.USAGE


class Oracle:
    """A model whose answers are given."""

    def __init__(self, run: Run, logits: np.ndarray, fingerprint: str, precision: str) -> None:
        self.run, self.found = run, logits
        self.record = {"data": {"fingerprint": fingerprint, "test_images": IMAGES, "classes": ["a"] * 10}}
        self.summary, self.checkpoint = run.summary(), CheckpointName.parse(MODEL.split("/")[1])
        self.recipe = Recipe(precision=precision)  # type: ignore[arg-type]

    def logits(self, _: Any) -> np.ndarray:
        return self.found


def evaluated(tmp_path: Path, changed: int, precision: str = "fp32", fingerprint: str = "f", first: int = 0) -> inference.Evaluation:
    """Of a model that was right in the first 1,500 of 2,000 images, and now says something else of `changed` ones from `first` on."""
    labels = np.zeros(IMAGES, np.uint8)
    stored = np.zeros((IMAGES, 10), np.float32)
    stored[1500:, 3], stored[:1500, 0] = 1, 1
    now = stored.copy()
    now[first : first + changed, 5] = 2
    with (tmp_path / "predictions.npz").open("wb") as file:
        np.savez(file, logits=stored, labels=labels)
    data = (tmp_path / "predictions.npz").read_bytes()
    store = FolderStore(tmp_path / "store")
    store.put("r/final/0001-abcdef/predictions.npz", data)
    final = {"predictions.npz": entry(data)}
    store.put("r/summary.json", encoded(summary(final=final, model=MODEL, test_accuracy=0.75)))
    split = SimpleNamespace(images=None, labels=labels)
    images: Any = SimpleNamespace(test=split, fingerprint="f")
    oracle: Any = Oracle(Run(store, "r"), now, fingerprint, precision)
    return inference.evaluate(oracle, images)


@pytest.mark.parametrize(
    ("changed", "precision", "agrees"),
    [
        (0, "fp32", True),
        (2, "fp32", True),
        (3, "fp32", False),
        (20, "bf16", True),
        (21, "bf16", False),
        (0, "fp64", True),
        (1, "fp64", False),
    ],
)
def test_agreement(changed: int, precision: str, agrees: bool, tmp_path: Path) -> None:
    found = evaluated(tmp_path, changed, precision)
    assert (found.hits, found.changed, found.recorded, found.agrees) == (1500 - changed, changed, 0.75, agrees)
    assert verdict(found, same_data=True).startswith("Agrees" if agrees else "DOES NOT AGREE")


def test_as_many_hits_with_other_answers_are_no_agreement(tmp_path: Path) -> None:
    found = evaluated(tmp_path, 400, first=1500)  # images that were wrong, and are wrong in another way now
    assert (found.hits, found.changed, found.agrees) == (1500, 400, False)


def test_other_data_are_not_compared(tmp_path: Path) -> None:
    found = evaluated(tmp_path, 700, fingerprint="another")
    assert (found.recorded, found.agrees) == (None, None)
    assert "not the data of the run" in verdict(found, same_data=False)


def test_a_damaged_prediction_file(tmp_path: Path) -> None:
    evaluated(tmp_path, 0)
    run = Run(FolderStore(tmp_path / "store"), "r")
    run.store.put("r/final/0001-abcdef/predictions.npz", b"x")
    oracle: Any = Oracle(run, np.zeros((1, 10), np.float32), "f", "fp32")
    images: Any = SimpleNamespace(test=SimpleNamespace(images=None, labels=np.zeros(1, np.uint8)), fingerprint="f")
    with pytest.raises(JobError, match=r"predictions\.npz"):
        inference.evaluate(oracle, images)
