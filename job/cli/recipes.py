"""The options that choose and change a recipe, and their order of precedence: flag, `ALEXNET_*` variable, file, default."""

import os
from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import click

from job.core.exits import Exit, JobError
from job.core.recipe import Recipe, from_toml

OVERRIDES = ("epochs", "batch_size", "image_size", "width", "precision", "validation")
"""recipe keys that have a flag of their own; `--set` changes every key"""
OTHER_VARIABLES = (
    *("ENGINE", "DATA", "OUTPUT", "RUN_ID", "SEED", "DEVICE", "RECIPE", "MIRROR", "CACHE", "INIT_FROM", "SUBSET", "THREADS", "IMAGE"),
    *("GRACE", "FLUSH_TIMEOUT", "SPOOL", "SPOOL_LIMIT", "LOG_FORMAT"),
)
"""`ALEXNET_*` variables that are not recipe keys, without the prefix"""


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--recipe`, `--set` and a flag for each of OVERRIDES.  Values stay strings, which the recipe parses and checks."""
    for key in reversed(OVERRIDES):
        command = click.option(f"--{key.replace('_', '-')}", key, metavar="VALUE", help=f"Same as --set {key}=VALUE.")(command)
    command = click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe; may be repeated.")(
        command
    )
    return click.option(
        "--recipe",
        default="default",
        envvar="ALEXNET_RECIPE",
        show_default=True,
        metavar="NAME|FILE",
        help="Name of a packaged recipe, or a TOML file.",
    )(command)


def packaged() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return sorted(f.name.removesuffix(".toml") for f in resources.files("job").joinpath("recipes").iterdir() if f.name.endswith(".toml"))


def resolve(values: dict[str, Any]) -> Recipe:
    """The recipe that the options ask for.  Raises JobError (2), naming the key, the value and what is allowed."""
    flags = {key: values[key] for key in OVERRIDES if values.get(key) is not None}
    for pair in values["pairs"]:
        key, equals, value = pair.partition("=")
        if not equals:
            raise JobError(Exit.USAGE, f"--set {pair}: expected KEY=VALUE, for example --set learning_rate=0.01.")
        if flags.get(key, value) != value:
            raise JobError(Exit.USAGE, f"{key} is given twice, as {flags[key]} and as {value}. Give it once.")
        flags[key] = value
    try:
        return _read(values["recipe"]).with_values(_environment()).with_values(flags)
    except ValueError as error:
        raise JobError(Exit.USAGE, f"{error}".rstrip(".") + ".") from None


def _read(name: str) -> Recipe:
    if name in packaged():
        return from_toml(resources.files("job").joinpath("recipes", f"{name}.toml").read_text("utf-8"), name)
    path = Path(name)
    if not path.is_file():
        raise JobError(
            Exit.USAGE, f"--recipe {name}: neither a file nor a recipe of the package. Expected {', '.join(packaged())}, or a TOML file."
        )
    try:
        return from_toml(path.read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(Exit.USAGE, f"--recipe {name}: cannot be read as UTF-8 text ({error}).") from None


def _environment() -> dict[str, str]:
    """`ALEXNET_<KEY>` for each key of a recipe; a line on stderr names each unknown `ALEXNET_*` variable, which may be misspelt."""
    keys = {f"ALEXNET_{f.name.upper()}": f.name for f in fields(Recipe)}
    known = {f"ALEXNET_{name}" for name in OTHER_VARIABLES}
    for variable in os.environ:
        # a Service called alexnet makes Kubernetes set ALEXNET_SERVICE_HOST, ALEXNET_PORT and the like
        if (
            variable.startswith("ALEXNET_")
            and variable not in keys
            and variable not in known
            and "_PORT" not in variable
            and "_SERVICE" not in variable
        ):
            click.echo(f"alexnet: the variable {variable} is not one of ours and has no effect.", err=True)
    return {key: os.environ[variable] for variable, key in keys.items() if variable in os.environ}
