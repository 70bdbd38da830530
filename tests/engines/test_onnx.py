"""`alexnet export`: what ONNX Runtime finds with the file is what the model says, on the run's own images."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from job.data import sources
from tests.support.commands import alexnet, summary, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With normalisation image by image, TensorFlow's padding, and a size that needs adaptive pooling."""
    output = tmp_path_factory.mktemp("trained")
    words = ("--set", "precision=fp32", "--set", "normalization=per-image", "--set", "conv1_padding=same", "--image-size", "95")
    assert train("torch", output, "r", *words).returncode == 0
    return output


@pytest.mark.parametrize("engine", ["torch", "tensorflow"])
def test_the_file_predicts_what_was_stored(engine: str, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    done = alexnet("export", str(trained / "r"), str(path), "--engine", engine)
    assert done.returncode == 0, done.stderr
    assert "in ONNX Runtime agree within" in done.stdout
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["classes"]) == list("0123456789")
    final = trained / "r" / "final" / summary(trained, "r")["attempt"]
    expected = np.load(io.BytesIO((final / "predictions.npz").read_bytes()))["logits"]
    images = sources.load("digits", cache=Path()).test.images
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for start, count in ((0, 64), (64, 1)):
        (found,) = session.run(["logits"], {"images": images[start : start + count]})
        np.testing.assert_allclose(found, expected[start : start + count], atol=1e-3 * np.abs(expected).max())


def test_a_model_that_computes_something_else_is_not_written(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from job import inference
    from job.core.exits import Exit, JobError

    model = inference.load_model(str(trained / "r"), engine="torch", device="cpu", threads=1, checkpoint=None, precision="fp32")
    export = model.network.export
    monkeypatch.setattr(
        model.network, "export", lambda path: (export(path), model.network.load([("classifier.6.bias", np.full(10, 9, np.float32))], ()))
    )
    with pytest.raises(JobError, match="not by rounding") as raised:
        inference.export(model, tmp_path / "x.onnx")
    assert raised.value.code == Exit.INTERNAL
