"""Options of the commands that run a stored model."""

from collections.abc import Callable
from typing import Any

import click

from job.cli import options

OPTIONS = (
    options.setting("--engine", type=options.ENGINES, help="Framework. Default: the run's, if it is installed."),
    options.device,
    options.setting("--threads", metavar="N", type=click.IntRange(1, 1024), help="CPU threads. Default: as many as in the run."),
    click.option("--checkpoint", metavar="NAME", help="Checkpoint of the run. Default: the model that its summary names."),
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command
