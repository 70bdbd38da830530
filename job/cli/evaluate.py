"""`alexnet evaluate`."""

from pathlib import Path
from typing import Any

import click

from job.cli import options
from job.cli.models import model_options


@click.command()
@click.argument("run", metavar="RUN")
@model_options
@options.setting(
    "--data", metavar="cifar10|digits|PATH|s3://…", help="Dataset, as for `alexnet train`. Default: the one of the run, by its name."
)
@options.cache
@options.mirror
@options.as_json
def evaluate(run: str, data: str | None, cache: Path | None, mirror: str | None, as_json: bool, **values: Any) -> int:
    """Recompute the test accuracy of RUN's stored model, in either engine, and check that it agrees with the recorded one.

    The exit code is 1 if it does not.
    """
    import json
    from dataclasses import asdict

    from job import inference
    from job.runs.results import open_run

    record = open_run(run).record()
    assert record is not None
    images = inference.test_set(record, data, cache=cache or options.cache_folder(), mirror=mirror)
    model = inference.load_model(run, **values)
    found = inference.evaluate(model, images)
    if as_json:
        model_facts = {
            "run": model.run.id,
            "checkpoint": str(model.checkpoint),
            "engine": model.engine.name,
            "test_accuracy": found.accuracy,
        }
        click.echo(json.dumps(model_facts | asdict(found), indent=1))
    else:
        low, high = found.interval
        click.echo(
            f"{model.checkpoint} in {model.engine.name}: {found.hits} of {found.images} test images, {found.accuracy:.2%} "
            f"(95 % interval {low:.2%} to {high:.2%}), top-5 {found.top5_accuracy:.2%}, loss {found.loss:.4f}"
        )
        click.echo(verdict(found, same_data=images.fingerprint == record["data"]["fingerprint"]))
    return 1 if found.agrees is False else 0


def verdict(found: Any, *, same_data: bool) -> str:
    """One sentence: does the recomputed accuracy agree with the recorded one?"""
    if not same_data:
        return "These are not the data of the run (another fingerprint), so there is nothing to compare with."
    if found.recorded is None:
        return "The run recorded no test accuracy for this checkpoint, so there is nothing to compare with."
    changed = "" if found.changed is None else f"; {found.changed} of {found.images} images get another class"
    return f"{'Agrees' if found.agrees else 'DOES NOT AGREE'} with the recorded {found.recorded:.2%}{changed}."
