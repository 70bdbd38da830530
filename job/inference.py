"""A stored model at work again, in either engine: for `alexnet evaluate`, `alexnet predict` and `alexnet export`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job import engines
from job.core import metrics
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe
from job.core.records import MetricsLine, RunRecord, Summary
from job.data import dataset, sources
from job.data.dataset import Dataset, Split
from job.engines import Engine, Network, translated
from job.runs.checkpoint import CheckpointName
from job.runs.pretrained import model_file
from job.runs.reading import LINES_BYTES, lines
from job.runs.results import open_run, predictions_of
from job.runs.run import Run
from job.runs.tensorfile import read_tensors

ROUNDING = {"fp64": 0.0, "fp32": 0.001, "bf16": 0.01}
"""share of the test images whose class may change with the device or the engine, since they lie within the rounding of a tie"""
EXPORTED = 1e-3
"""difference of logits over the largest one that rounding explains between two runtimes in float32, on a GPU as well"""
BATCH_SIZE = 64
"""pictures that go through the network at a time"""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A run, and one of its models on a device."""

    run: Run
    record: RunRecord
    summary: Summary | None
    checkpoint: CheckpointName
    engine: Engine
    network: Network
    """with the checkpoint's weights"""
    recipe: Recipe
    classes: tuple[str, ...]

    def logits(self, split: Split) -> NDArray[np.float32]:
        """(N, classes) without dropout and augmentation."""
        with translated(self.engine):
            self.network.place("test", split.images, split.labels)
            found = engines.evaluate(self.network, "test", np.arange(len(split)), self.recipe.batch_size, lambda: False)
        assert found is not None
        return found

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, classes) of (N, 32, 32, 3) pixels."""
        return metrics.softmax(self.logits(Split(images=images, labels=np.zeros(len(images), np.uint8))))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model does on a test set, beside what was recorded of it."""

    hits: int
    images: int
    loss: float
    interval: tuple[float, float]
    """95 % for the accuracy"""
    top5_accuracy: float
    recorded: float | None
    """test accuracy in the summary, or in the checkpoint's own metrics"""
    changed: int | None
    """images whose class is another one than in the stored predictions, where these are of the same model"""
    agrees: bool | None
    """None: nothing was recorded, or of other images"""

    @property
    def accuracy(self) -> float:
        return self.hits / self.images


def load_model(
    url: str,
    *,
    engine: str | None,
    device: str,
    threads: int | None,
    checkpoint: str | None,
    pictures: int | None = None,
    precision: str | None = None,
) -> Model:
    """The run at `url` and its model: that of `checkpoint`, else of the summary, else of the newest checkpoint.

    `pictures`: how many will be asked for, where the batch need not be that of the training; `precision`: another than that of the
    training.  Raises JobError as `open_run`, and 65 where the model is damaged.
    """
    run = open_run(url)
    record, summary = run.record(), run.summary()
    assert record is not None
    text = checkpoint or (summary["model"].split("/")[1] if summary else str(_newest_checkpoint(run)))
    recipe = Recipe().with_values({**record["recipe"], **({"precision": precision} if precision else {})})
    if pictures is not None:
        recipe = recipe.with_values({"batch_size": min(pictures, BATCH_SIZE)})
    classes = tuple(record["data"].get("classes") or map(str, range(10)))
    architecture = recipe.architecture(len(classes))
    with TemporaryDirectory() as folder:
        name = CheckpointName.parse(text)
        if name is None or run.manifest("checkpoints", str(name)) is None:
            stored = ", ".join(map(str, run.checkpoint_names())) or "none"
            raise JobError(Exit.USAGE, f"{url}: there is no complete checkpoint {text!r}. Stored are: {stored}.")
        path = model_file(run, f"checkpoints/{name}/model.safetensors", Path(folder))
        opened = engines.open_engine(engine or _engine_name(summary), device=device, threads=threads or record["threads"])
        with translated(opened):
            network = opened.network(recipe, architecture)
            network.load(read_tensors(path, architecture.parameter_shapes), ())
    return Model(
        run=run,
        record=record,
        summary=summary,
        checkpoint=name,
        engine=opened,
        network=network,
        recipe=recipe,
        classes=classes,
    )


def test_set(record: RunRecord, source: str | None, **options: Any) -> Dataset:
    """The dataset of a run (by its name, unless `source` says where it is), cut as the run cut it.  `options` as for `sources.load`."""
    name, count = re.fullmatch(r"(.*?)(?:\[:(\d+)\])?", record["data"]["name"]).groups()  # type: ignore[union-attr]
    if source is None and name not in ("cifar10", "digits"):
        raise JobError(Exit.USAGE, f"--data is missing: the run was trained on {name!r}, and no record says where that is.")
    found = sources.load(source or name, **options)
    return dataset.subset(found, int(count)) if count else found


def evaluate(model: Model, data: Dataset) -> Evaluation:
    """Recompute and compare.  Only with the run's own data is anything said to agree."""
    logits, labels = model.logits(data.test), data.test.labels
    hits, images = int((logits.argmax(1) == labels).sum()), len(labels)
    recorded, stored = _recorded(model) if data.fingerprint == model.record["data"]["fingerprint"] else (None, None)
    changed = None if stored is None else int((stored != logits.argmax(1)).sum())
    agrees = None
    if recorded is not None:
        allowed = max(ROUNDING[model.recipe.precision] * images, 0 if model.recipe.precision == "fp64" else 1)
        agrees = max(abs(round(recorded * images) - hits), changed or 0) <= allowed
    return Evaluation(
        hits=hits,
        images=images,
        loss=metrics.cross_entropy(logits, labels),
        interval=metrics.wilson(hits, images),
        top5_accuracy=metrics.top5_accuracy(logits, labels),
        recorded=recorded,
        changed=changed,
        agrees=agrees,
    )


def export(model: Model, path: Path) -> float:
    """Write the model as ONNX, and run it: the greatest difference of logits from the framework's, over the largest logit.

    Raises JobError: 78 where the exporter's packages are missing, 70 where the two differ by more than rounding."""
    import onnx
    import onnxruntime

    try:
        with translated(model.engine):
            model.network.export(path)
    except ImportError as error:
        raise JobError(
            Exit.CONFIGURATION, f"The exporter of {model.engine.name} misses {error.name}. Install `pip install 'alexnet-job[onnx]'`."
        ) from None
    written = onnx.load(path)
    facts = {"run": model.run.id, "checkpoint": str(model.checkpoint), "classes": json.dumps(model.classes)}
    onnx.helper.set_model_props(written, facts)
    onnx.save(written, path)
    images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    expected = model.logits(Split(images=images, labels=np.zeros(BATCH_SIZE, np.uint8)))
    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= EXPORTED:
        raise JobError(
            Exit.INTERNAL, f"{path.name}: ONNX Runtime finds logits that differ by {difference:.0e} of the largest, not by rounding."
        )
    return difference


def _recorded(model: Model) -> tuple[float | None, NDArray[np.integer[Any]] | None]:
    """(test accuracy, predicted classes) as they were stored for this model, as far as they were."""
    run, summary = model.run, model.summary
    if summary is not None and summary["model"].split("/")[1] == str(model.checkpoint):
        logits, _ = predictions_of(run, model.record, summary)
        return summary["test_accuracy"], logits.argmax(1)
    key = run.key("checkpoints", str(model.checkpoint), "metrics.jsonl")
    stored = lines(MetricsLine, run.store.get(key, LINES_BYTES), f"{run.store.url}/{key}")
    of_checkpoint = (line for line in stored if line["kind"] == "epoch" and line["step"] == model.checkpoint.step)
    return next((line["test_accuracy"] for line in of_checkpoint), None), None


def _newest_checkpoint(run: Run) -> CheckpointName:
    """Of a run that is not finished.  Raises JobError (2) where nothing is stored yet."""
    for name in run.checkpoint_names():
        if run.manifest("checkpoints", str(name)) is not None:
            return name
    raise JobError(Exit.USAGE, f"{run.store.url}/{run.id}: no checkpoint is stored yet. Wait until its first epoch has ended.")


def _engine_name(summary: Summary | None) -> str:
    """The run's own where it is installed, else the one that is.  Raises JobError (78)."""
    installed = engines.installed()
    if not installed:
        raise JobError(
            Exit.CONFIGURATION, "Neither torch nor tensorflow is installed. `pip install 'alexnet-job[torch]'`, or use an image."
        )
    return str(summary["engine"]) if summary and summary["engine"] in installed else installed[0]
