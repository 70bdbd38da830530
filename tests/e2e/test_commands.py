"""The commands that read what runs left, against a real server: runs, evaluate, predict, pull, data push."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from job.data import sources
from job.data.dataset import Dataset
from tests.support.commands import alexnet, train
from tests.support.servers import Server, weed
from tests.support.stored import folder_objects, objects

ENGINES = ("torch", "tensorflow")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Its bucket holds a finished run of each engine, called as the engine, and one that diverged."""
    with weed() as running:
        running.make_bucket("results")
        for engine in ENGINES:
            result = train(engine, "s3://results", engine, **running.environment)
            assert result.returncode == 0, result.stderr
        hot = ("--set", "learning_rate=1e30", "--set", "clip_norm=0", "--set", "warmup=0")
        assert train("torch", "s3://results", "hot", *hot, **running.environment).returncode == 76
        yield running


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return sources.load("digits", cache=Path())


def run_objects(server: Server, run: str) -> dict[str, bytes]:
    return {key: data for key, data in objects(server).items() if key.startswith(f"{run}/")}


def model_key(server: Server, run: str) -> str:
    return f"{run}/{json.loads(run_objects(server, run)[f'{run}/summary.json'])['model']}"


@pytest.fixture
def bent(server: Server) -> Iterator[str]:
    """Key of the torch run's model, one bit of which is flipped during the test."""
    key = model_key(server, "torch")
    whole = objects(server)[key]
    data = bytearray(whole)
    data[-9] ^= 1
    server.client().put_object(Bucket="results", Key=key, Body=bytes(data))
    yield key
    server.client().put_object(Bucket="results", Key=key, Body=whole)


def listed(server: Server, *words: str) -> list[dict[str, Any]]:
    result = alexnet("runs", "s3://results", "--json", *words, **server.environment)
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_runs_says_what_there_is(server: Server) -> None:
    rows = {row["run"]: row for row in listed(server)}
    assert {run: row["state"] for run, row in rows.items()} == {"torch": "finished", "tensorflow": "finished", "hot": "failed"}
    for engine in ENGINES:
        summary = json.loads(run_objects(server, engine)[f"{engine}/summary.json"])
        for field in ("engine", "recipe", "epochs", "test_accuracy", "images_per_second"):
            assert rows[engine][field] == summary[field]
        assert rows[engine]["epoch"] == 2
    assert "diverged" in rows["hot"]["reason"]
    accuracies = [row["test_accuracy"] for row in listed(server, "--sort", "test_accuracy")]
    assert accuracies[:2] == sorted((a for a in accuracies[:2]), reverse=True)
    assert accuracies[2] is None


def test_runs_as_a_table(server: Server) -> None:
    result = alexnet("runs", "s3://results", **server.environment)
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines() if line and line.split()[0] in ("hot", *ENGINES)] == [
        "hot",
        "tensorflow",
        "torch",
    ]
    inside = alexnet("runs", "s3://results/torch", **server.environment)
    assert inside.returncode == 2
    assert "one level up" in inside.stderr


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("run", ENGINES)
def test_either_engine_finds_the_same_accuracy(run: str, engine: str, server: Server) -> None:
    result = alexnet("evaluate", f"s3://results/{run}", "--engine", engine, "--data", "digits", **server.environment)
    assert result.returncode == 0, result.stderr
    summary = json.loads(run_objects(server, run)[f"{run}/summary.json"])
    assert "Agrees" in result.stdout
    assert f"of 355 test images, {summary['test_accuracy']:.2%}" in result.stdout


def test_evaluate_says_when_a_model_is_damaged(server: Server, bent: str) -> None:
    result = alexnet("evaluate", "s3://results/torch", "--data", "digits", **server.environment)
    assert result.returncode == 65
    assert bent in result.stderr
    assert "Traceback" not in result.stderr


def test_evaluate_notices_another_accuracy(server: Server, tmp_path: Path) -> None:
    assert alexnet("pull", "s3://results/torch", str(tmp_path), **server.environment).returncode == 0
    path = tmp_path / "torch" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "test_accuracy": summary["test_accuracy"] - 0.2}))
    result = alexnet("evaluate", str(tmp_path / "torch"), "--data", "digits")
    assert result.returncode == 1, result.stderr
    assert "DOES NOT AGREE" in result.stdout


@pytest.mark.parametrize("engine", ENGINES)
def test_predict_agrees_with_the_stored_predictions(engine: str, server: Server, digits: Dataset, tmp_path: Path) -> None:
    found = run_objects(server, "torch")
    attempt = json.loads(found["torch/summary.json"])["attempt"]
    logits = np.load(io.BytesIO(found[f"torch/final/{attempt}/predictions.npz"]))["logits"].astype(np.float64)
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    paths = [tmp_path / f"{number}.{ending}" for number, ending in enumerate(("png", "bmp", "tiff"))]
    for number, path in enumerate(paths):
        Image.fromarray(digits.test.images[number]).save(path)
    result = alexnet("predict", "s3://results/torch", *map(str, paths), "--engine", engine, "--json", **server.environment)
    assert result.returncode == 0, result.stderr
    for number, row in enumerate(json.loads(result.stdout)):
        assert len(row["classes"]) == 3
        assert row["classes"][0]["class"] == str(expected[number].argmax())
        for entry in row["classes"]:
            assert entry["probability"] == pytest.approx(expected[number][int(entry["class"])], abs=1e-3)


def test_predict_takes_any_picture(server: Server, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = {
        "grey.jpg": Image.fromarray(random.integers(0, 256, (50, 300), np.uint8)),
        "clear.png": Image.fromarray(random.integers(0, 256, (7, 5, 4), np.uint8), "RGBA"),
        "palette.gif": Image.fromarray(random.integers(0, 256, (64, 64), np.uint8)).convert("P"),
        "deep.png": Image.fromarray(random.integers(0, 65536, (40, 40)).astype(np.uint16)),
        "dots.png": Image.new("1", (33, 31)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    result = alexnet("predict", "s3://results/torch", *(str(tmp_path / name) for name in pictures), **server.environment)
    assert result.returncode == 0, result.stderr
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [str(tmp_path / name) for name in pictures]
    assert all(line.count("%") == 3 for line in result.stdout.splitlines())


@pytest.mark.parametrize(("content", "code"), [(None, 2), (b"no picture", 65), (b"\x89PNG\r\n\x1a\n" + bytes(20), 65)])
def test_predict_refuses_what_is_no_picture(content: bytes | None, code: int, server: Server, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    result = alexnet("predict", "s3://results/torch", str(tmp_path / "x.png"), **server.environment)
    assert result.returncode == code
    assert "x.png" in result.stderr
    assert "Traceback" not in result.stderr


def test_pull_brings_everything_and_goes_on(server: Server, tmp_path: Path) -> None:
    there = run_objects(server, "tensorflow")
    words = ("pull", "s3://results/tensorflow", str(tmp_path / "here"))
    assert alexnet(*words, **server.environment).returncode == 0
    assert folder_objects(tmp_path / "here") == there
    model = tmp_path / "here" / model_key(server, "tensorflow")
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)  # damaged, of the same size
    (model.parent / "state.json").unlink()
    untouched = (model.parent / "optimizer.safetensors").stat().st_mtime_ns
    assert alexnet(*words, **server.environment).returncode == 0
    assert folder_objects(tmp_path / "here") == there
    assert (model.parent / "optimizer.safetensors").stat().st_mtime_ns == untouched


def test_pull_says_what_is_damaged(server: Server, bent: str, tmp_path: Path) -> None:
    result = alexnet("pull", "s3://results/torch", str(tmp_path), **server.environment)
    assert result.returncode == 65
    assert bent in result.stderr
    assert not (tmp_path / bent).exists()


@pytest.fixture
def official(digits: Dataset, tmp_path: Path) -> Path:
    """The digits as .bin files."""
    folder = tmp_path / "bins"
    folder.mkdir()
    for name, split in (("data_batch_1.bin", digits.train), ("test_batch.bin", digits.test)):
        planes = split.images.transpose(0, 3, 1, 2).reshape(len(split), -1)
        (folder / name).write_bytes(np.hstack([split.labels[:, None], planes]).tobytes())
    (folder / "batches.meta.txt").write_text("".join(f"{n}\n" for n in range(10)))
    return folder


def test_a_dataset_in_the_store(server: Server, official: Path, digits: Dataset, tmp_path: Path) -> None:
    url, variables = "s3://results/.data/digits", server.environment
    first = alexnet("data", "push", str(official), url, **variables)
    assert first.returncode == 0, first.stderr
    stored = {key: data for key, data in objects(server).items() if key.startswith(".data/")}
    assert stored[".data/digits/test_batch.bin"] == (official / "test_batch.bin").read_bytes()
    second = alexnet("data", "push", str(official), url, **variables)
    assert second.returncode == 0
    assert "stored" not in second.stdout
    assert {key: data for key, data in objects(server).items() if key.startswith(".data/")} == stored
    words = ("--data", url, "--cache", str(tmp_path / "cache"), "--epochs", "1")
    result = train("torch", tmp_path / "runs", "x", *words, **variables)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "runs" / "x" / "run.json").read_text())["data"]["fingerprint"] == digits.fingerprint
    assert "downloading" in result.stderr
    again = train("torch", tmp_path / "runs", "y", *words, **variables)
    assert again.returncode == 0
    assert "downloading" not in again.stderr


def test_another_dataset_is_not_overwritten(server: Server, official: Path) -> None:
    url = "s3://results/.data/other"
    assert alexnet("data", "push", str(official), url, **server.environment).returncode == 0
    data = (official / "test_batch.bin").read_bytes()
    (official / "test_batch.bin").write_bytes(bytes([(data[0] + 1) % 10]) + data[1:])
    result = alexnet("data", "push", str(official), url, **server.environment)
    assert result.returncode == 78
    assert objects(server)[".data/other/test_batch.bin"] == data


def test_a_damaged_dataset_in_the_store(server: Server, official: Path, tmp_path: Path) -> None:
    url = "s3://results/.data/bent"
    assert alexnet("data", "push", str(official), url, **server.environment).returncode == 0
    data = bytearray((official / "test_batch.bin").read_bytes())
    data[100] ^= 1
    server.client().put_object(Bucket="results", Key=".data/bent/test_batch.bin", Body=bytes(data))
    result = train("torch", tmp_path / "runs", "x", "--data", url, "--cache", str(tmp_path / "cache"), **server.environment)
    assert result.returncode == 65, result.stderr
    assert "test_batch.bin" in result.stderr
    nothing = train("torch", tmp_path / "runs", "x", "--data", "s3://results/.data/none", **server.environment)
    assert nothing.returncode == 2
    assert "alexnet data push" in nothing.stderr
