"""The options that choose and change a recipe, and their order of precedence: flag, `ALEXNET_*` variable, file, default."""

import difflib
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import click

from job.cli import options
from job.core.exits import Exit, JobError
from job.core.recipe import ALSO_CALLED, KEYS, Precision, Recipe, from_toml

OVERRIDES = {
    "epochs": ("N", "Passes over the training set."),
    "batch_size": ("N", "Images of one optimiser step."),
    "image_size": ("PIXELS", "Side to which the images are resized."),
    "width": ("FACTOR", "On the channels and features of every hidden layer."),
    "precision": (
        f"[{'|'.join(get_args(Precision))}]",
        "Of activations and gradients. auto: bf16 where the device computes in it, else fp32.",
    ),
    "validation": ("N", "Training images that are held out, to choose the best epoch."),
}
"""recipe keys that have a flag of their own, with its value and help; `--set` changes every key"""
FACTS = ("IMAGE", "REVISION", "NODE", "POD", "NAMESPACE", "JOB", "JOB_UID", "COMPLETIONS")
"""`ALEXNET_*` variables, without the prefix, that images and manifests set for the record; they are no settings"""


pairs = click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe; may be repeated. docs/recipes.md lists the keys.  [env var: ALEXNET_KEY]",
    shell_complete=lambda context, option, begun: [f"{key}=" for key in KEYS if key.startswith(begun)],
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--recipe`, `--set` and a flag for each of OVERRIDES.  Values stay strings, which the recipe parses and checks."""
    for key, (value, about) in reversed(OVERRIDES.items()):
        about = f"{about} Same as --set {key}=…  [env var: {_variable(key)}]"  # read by `resolve`: below --set in precedence
        command = click.option(f"--{key.replace('_', '-')}", key, metavar=value, help=about)(command)
    command = pairs(command)
    return options.setting(
        "--recipe",
        default="default",
        show_default=True,
        metavar="NAME|FILE",
        help=f"A recipe of the package ({', '.join(packaged())}), or a TOML file.",
        shell_complete=lambda context, option, begun: [name for name in packaged() if name.startswith(begun)],
    )(command)


def packaged() -> list[str]:
    """Names of the recipes in the package, sorted."""
    return sorted(f.name.removesuffix(".toml") for f in resources.files("job").joinpath("recipes").iterdir() if f.name.endswith(".toml"))


def resolve(values: dict[str, Any], warn: Callable[[str], object] | None = None) -> Recipe:
    """The recipe that the options ask for.  Raises JobError (2), naming the key, the value and what is allowed.

    `warn` is called with a line about each variable that may be misspelt; None: they go to stderr.
    """
    flags = {key: values[key] for key in OVERRIDES if values.get(key) is not None}
    for pair in values["pairs"]:
        key, equals, value = pair.partition("=")
        if not equals:
            raise JobError(Exit.USAGE, f"--set {pair}: expected KEY=VALUE, for example --set learning_rate=0.01.")
        if flags.get(key, value) != value:
            raise JobError(Exit.USAGE, f"{key} is given twice, as {flags[key]} and as {value}. Give it once.")
        flags[key] = value
    given = _environment(warn or (lambda line: click.echo(f"alexnet: {line}", err=True)))
    try:
        return _read(values["recipe"]).with_values({**given, **flags})
    except ValueError as error:
        key = str(error).partition(" ")[0]
        origin = f"{_variable(key)}: " if key in given and key not in flags else ""
        raise JobError(Exit.USAGE, f"{origin}{error}".rstrip(".") + ".") from None


def _read(name: str) -> Recipe:
    if name in packaged():
        return from_toml(resources.files("job").joinpath("recipes", f"{name}.toml").read_text("utf-8"), name)
    path = Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, packaged(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise JobError(
            Exit.USAGE,
            f"--recipe {name}: neither a file nor a recipe of the package.{hint} Expected {', '.join(packaged())}, or a TOML file.",
        )
    try:
        return from_toml(path.read_text("utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(Exit.USAGE, f"--recipe {name}: cannot be read as UTF-8 text ({error}).") from None


def _environment(warn: Callable[[str], object]) -> dict[str, str]:
    """`ALEXNET_<KEY>` for each key of a recipe; a line names each unknown `ALEXNET_*` variable, which may be misspelt."""
    keys, context = {_variable(key): key for key in KEYS}, click.get_current_context()
    known = {*keys, *map(_variable, FACTS), *_variables_of(context.command)}
    # a Service called alexnet makes Kubernetes set ALEXNET_SERVICE_HOST, ALEXNET_PORT and the like
    given = [name for name in os.environ if name.startswith("ALEXNET_") and "_PORT" not in name and "_SERVICE" not in name]
    if not known.issuperset(given):
        known |= _variables_of(context.find_root().command)  # which imports every command
    for variable in given:
        if variable not in known:
            key = ALSO_CALLED.get(variable.removeprefix("ALEXNET_").lower())
            near = [_variable(key)] if key else difflib.get_close_matches(variable, known, n=1, cutoff=0.8)
            hint = f" Did you mean {near[0]}?" if near else ""
            warn(f"the variable {variable} is not one of ours and has no effect.{hint}")
    return {key: os.environ[variable] for variable, key in keys.items() if variable in os.environ}


def _variable(key: str) -> str:
    return f"ALEXNET_{key.upper()}"


def _variables_of(command: click.Command) -> set[str]:
    """Those of the options of a command and of all commands below it."""
    below = []
    if isinstance(command, click.Group):
        context = click.Context(command)
        below = [command.get_command(context, name) for name in command.list_commands(context)]
    own = {str(option.envvar) for option in command.params if option.envvar}
    return own.union(*(_variables_of(each) for each in below if each))
