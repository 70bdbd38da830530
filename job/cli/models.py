"""The options of the commands that put a stored model to work."""

from collections.abc import Callable
from typing import Any

import click

from job.cli import options

OPTIONS = (
    click.option("--engine", envvar="ALEXNET_ENGINE", type=options.ENGINES, help="Default: the run's, where it is installed."),
    options.device,
    click.option("--threads", envvar="ALEXNET_THREADS", type=click.IntRange(1, 1024), help="CPU threads. Default: as in the run."),
    click.option("--checkpoint", metavar="NAME", help="One of the run's checkpoints. Default: the model that its summary names."),
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command
