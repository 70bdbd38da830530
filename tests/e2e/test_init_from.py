"""`--init-from s3://…`: an object, and the model of a run, from a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from job.core.exits import Exit, JobError
from job.runs.pretrained import fetch_weights
from job.runs.tensorfile import read_tensors, write_tensors
from job.storage.files import encoded, sha256
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.records import run_record, summary
from tests.support.servers import weed

SHAPES = {"features.0.weight": (2, 3, 1, 1), "classifier.6.bias": (10,)}
CHECKPOINT = "checkpoints/step-00000001-0001-abcdef"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with weed() as server, pytest.MonkeyPatch.context() as patch:
        server.make_bucket("results")
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield open_store("s3://results")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    arrays = [(name, np.arange(np.prod(shape), dtype=np.float32).reshape(shape)) for name, shape in SHAPES.items()]
    write_tensors(path, SHAPES, "float32", arrays)
    return path


def refused(source: str, cache: Path, code: Exit, text: str) -> None:
    with pytest.raises(JobError, match=text) as caught:
        fetch_weights(source, cache)
    assert caught.value.code is code


def test_an_object(store: Store, model: Path, tmp_path: Path) -> None:
    store.put("team/m.safetensors", model)
    found = fetch_weights("s3://results/team/m.safetensors", tmp_path / "cache")
    assert found.read_bytes() == model.read_bytes()
    refused("s3://results/team/other.safetensors", tmp_path / "cache", Exit.USAGE, "no such object")
    store.put("team/m-00000000.pth", model)
    refused("s3://results/team/m-00000000.pth", tmp_path / "cache", Exit.DATA, "00000000")


def test_the_model_of_a_run(store: Store, model: Path, tmp_path: Path) -> None:
    store.put("r/run.json", encoded(run_record()))
    store.put(f"r/{CHECKPOINT}/model.safetensors", model)
    store.put(f"r/{CHECKPOINT}/MANIFEST.json", encoded({"files": {"model.safetensors": {"size": 1, "sha256": sha256(model)}}}))
    refused("s3://results/r", tmp_path / "cache", Exit.USAGE, "has not ended")
    store.put("r/summary.json", encoded(summary(model=f"{CHECKPOINT}/model.safetensors")))
    assert dict(read_tensors(fetch_weights("s3://results/r/", tmp_path / "cache")))["classifier.6.bias"].tolist() == [*range(10)]
    shutil.rmtree(tmp_path / "cache")
    store.put(f"r/{CHECKPOINT}/model.safetensors", model.read_bytes()[:-1] + b"\1")
    refused("s3://results/r", tmp_path / "cache", Exit.DATA, "its manifest says")
    refused("s3://results/nothing", tmp_path / "cache", Exit.USAGE, "there is no run")
