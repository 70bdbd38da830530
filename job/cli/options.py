"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

ENGINES = click.Choice(["torch", "tensorflow"])

device = click.option(
    "--device",
    envvar="ALEXNET_DEVICE",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a GPU if there is one, else the CPU; cuda: an error without a GPU.",
)
mirror = click.option("--mirror", envvar="ALEXNET_MIRROR", help="URL from which to download CIFAR-10.")
cache = click.option(
    "--cache", envvar="ALEXNET_CACHE", type=click.Path(path_type=Path), help="Folder for downloads. Default: $XDG_CACHE_HOME/alexnet."
)
spool = click.option(
    "--spool",
    envvar="ALEXNET_SPOOL",
    type=click.Path(path_type=Path),
    help="Folder in which uploads wait. Default: in a local --output, else in the folder for temporary files.",
)


def seconds(name: str, default: float, text: str) -> Callable[[Command], Command]:
    """An option for a time in seconds, with a variable of the same name: --grace and ALEXNET_GRACE."""
    variable = f"ALEXNET_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, type=click.FloatRange(0), default=default, show_default=True, metavar="SECONDS", help=text)


grace = seconds("--grace", 30.0, "Time between SIGTERM and SIGKILL; the last checkpoint must be stored within it.")


def cache_folder() -> Path:
    """Where downloads go without `--cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"
