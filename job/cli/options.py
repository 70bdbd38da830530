"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from job.core.exits import Exit, JobError

Command = TypeVar("Command", bound=Callable[..., Any])

ENGINES = click.Choice(["torch", "tensorflow"])


def setting(name: str, **facts: Any) -> Callable[[Command], Command]:
    """An option with a variable of the same name, which the help shows: --log-steps and ALEXNET_LOG_STEPS."""
    variable = f"ALEXNET_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, show_envvar=True, **facts)


def seconds(name: str, default: float, text: str) -> Callable[[Command], Command]:
    """A setting that is a time in seconds."""
    return setting(name, type=click.FloatRange(0), default=default, show_default=True, metavar="SECONDS", help=text)


as_json = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
device = setting(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a GPU if there is one, else the CPU; cuda: an error without a GPU.",
)
mirror = setting("--mirror", metavar="URL", help="URL from which to download CIFAR-10.")
cache = setting("--cache", type=click.Path(path_type=Path), help="Folder for downloads. Default: $XDG_CACHE_HOME/alexnet.")
seed = setting(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of everything random: data order, augmentation, initial weights, dropout.",
)
spool = setting(
    "--spool",
    type=click.Path(path_type=Path),
    help="Folder in which uploads wait. Default: in a local --output, else in the folder for temporary files.",
)
threads = setting("--threads", metavar="N", type=click.IntRange(1, 1024), help="CPU threads. Default: the CPUs that the container may use.")
grace = seconds("--grace", 30.0, "Time between SIGTERM and SIGKILL; the last checkpoint must be stored within it.")


def cache_folder() -> Path:
    """Where downloads go without `--cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"


def only_engine() -> str:
    """The one that is installed.  Raises JobError (2) where that is not one."""
    from job.engines import installed

    if len(installed()) != 1:
        found = ", ".join(installed()) or "neither"
        raise JobError(Exit.USAGE, f"--engine is missing. Expected torch or tensorflow; installed here: {found}.")
    return installed()[0]
