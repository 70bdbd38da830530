"""`alexnet predict`."""

from pathlib import Path
from typing import Any, TypedDict

import click

from job.cli import options
from job.cli.models import model_options

SHOWN = 3
"""classes printed for each image"""

Guess = TypedDict("Guess", {"class": str, "probability": float})


class Answer(TypedDict):
    image: str
    classes: list[Guess]
    """most probable first"""


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@model_options
@options.as_json
def predict(run: str, images: tuple[Path, ...], as_json: bool, **values: Any) -> None:
    """Print the three most probable classes of each IMAGE, according to RUN's model.

    Each image is cropped to its largest central square and scaled to 32 × 32 pixels.
    """
    import json

    import numpy as np

    from job.data.image_files import read_pictures
    from job.inference import load_model

    pixels = read_pictures(images)
    model = load_model(run, pictures=len(pixels), **values)
    rows: list[Answer] = []
    for path, probabilities in zip(images, model.probabilities(pixels), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:SHOWN]
        rows.append({"image": str(path), "classes": [{"class": model.classes[c], "probability": float(probabilities[c])} for c in best]})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(f"{row['image']}: " + ", ".join(f"{entry['class']} {entry['probability']:.1%}" for entry in row["classes"]))
