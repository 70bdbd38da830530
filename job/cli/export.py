"""`alexnet export`."""

from typing import Any

import click

from job.cli.models import model_options
from job.core.exits import Exit


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("target", metavar="FILE.onnx|s3://…")
@model_options
def export(run: str, target: str, **values: Any) -> int:
    """Write RUN's model as ONNX, with the run's normalisation in it: `images` (N, 32, 32, 3), bytes as `alexnet predict` scales pictures,
    to `logits` (N, classes), in float32. The metadata name the classes.

    It is written by the framework's own exporter, and ONNX Runtime must find what the framework finds. Needed are the packages of
    `pip install 'alexnet-job[onnx]'`.
    """
    import importlib.util
    import tempfile
    from pathlib import Path

    from job import inference
    from job.core.exits import JobError
    from job.runs.results import open_run
    from job.storage.opening import split

    store, key = split(target)
    open_run(run)
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise JobError(Exit.CONFIGURATION, f"The package {missing[0]} is not installed here. Install `pip install 'alexnet-job[onnx]'`.")
    model = inference.load_model(run, pictures=inference.BATCH_SIZE, precision="fp32", **values)
    with tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        path = Path(folder) / "model.onnx"
        difference = inference.export(model, path)
        size = path.stat().st_size
        store.move(path, key)
    click.echo(
        f"{target}: {model.checkpoint} by {model.engine.name}, {size / 1e6:.1f} MB; logits of {inference.BATCH_SIZE} random images in "
        f"ONNX Runtime agree within {difference:.0e} of the largest"
    )
    return Exit.DONE
