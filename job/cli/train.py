"""`alexnet train`."""

import os
import signal
from dataclasses import fields
from typing import Any

import click

from job.cli import options
from job.cli.display import Display, leave_message
from job.cli.recipes import recipe_options, resolve
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe, to_toml
from job.storage.files import without_secrets
from job.training.options import Options
from job.training.stopping import Stopped, StopSignal


@click.command()
@options.setting("--engine", type=options.ENGINES, help="The framework. An image has its own default.")
@recipe_options
@options.setting(
    "--data",
    metavar="cifar10|digits|PATH|s3://…",
    default="cifar10",
    show_default=True,
    help="cifar10 is downloaded, digits is in the package. A path: CIFAR-10's binary or Python version, unpacked or not (also in the "
    "caches of torchvision and Keras), or train/CLASS/*.png and test/CLASS/*.png, resized to 32 × 32. s3://…: what `alexnet data push` "
    "stored.",
)
@options.setting(
    "--output", metavar="FOLDER|s3://…", default="runs", show_default=True, help="Folder or s3://bucket/prefix for the results."
)
@options.setting("--run-id", metavar="NAME", help="Name of the run; the same name continues it. Default: a new, unique one.")
@options.seed
@options.setting(
    "--continue-in-other-engine",
    is_flag=True,
    help="Go on with a run whose last steps were taken in the other framework; its result is of both, and cannot be compared.",
)
@options.device
@options.threads
@options.setting(
    "--init-from",
    metavar="FILE|URL|RUN",
    help="Weights for pretrained = true: .safetensors or .pth file, its http(s):// or s3:// URL, or a finished run.",
)
@options.setting("--subset", metavar="N", type=click.IntRange(1), help="Use only the first N training images, and N/5 test images.")
@options.mirror
@options.cache
@options.setting(
    "--log-steps", metavar="N", type=click.IntRange(1), default=50, show_default=True, help="Steps between two lines of the log."
)
@options.setting("--checkpoint-steps", metavar="N", type=click.IntRange(0), default=0, help="Also store a checkpoint every so many steps.")
@options.setting(
    "--checkpoint-minutes",
    metavar="MINUTES",
    type=click.FloatRange(0),
    default=0.0,
    help="Also store a checkpoint when the last one is so many minutes old.",
)
@options.grace
@options.seconds("--flush-timeout", 600.0, "How long the end of a run waits for the store.")
@options.spool
@options.setting(
    "--spool-limit",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    metavar="MIB",
    help="What may wait for upload before training waits.",
)
@options.setting(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="auto: a progress bar on a terminal, else text; json: an object for each line.",
)
@options.setting(
    "--metrics-port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Where Prometheus finds epoch, step, loss, speed and more; 0: nowhere.",
)
@options.setting("--dry-run", is_flag=True, help="Print the resolved recipe and end.")
def train(**values: Any) -> int:
    """Train, evaluate on the whole test set, and leave everything in --output/RUN_ID.

    A setting comes from its flag, else from its variable, else from the recipe's file, else it has its default.
    """
    recipe = resolve(values)
    if values["dry_run"]:
        click.echo(to_toml(recipe), nl=False)
        return Exit.DONE
    if values["run_id"] is None and "ALEXNET_RUN_ID" in os.environ:
        values["run_id"] = ""  # set but empty, which click takes for not set
    _check(recipe, values)
    stop, display = StopSignal(values["grace"]), Display(values["log_format"])  # before a framework is imported
    display.say(f"{values['engine']}, recipe {recipe.name}, data {without_secrets(values['data'])}: checking and loading")
    try:
        from job.training import start

        code = start.train(recipe, _options(values), stop, display)
    except Stopped:
        display.say("stopped before any progress: nothing was stored", event="stopped")
        code = Exit.INTERRUPTED if stop.number == signal.SIGINT else Exit.NOT_STORED
    except Exception as error:
        return display.fail(error)
    finally:
        display.close()
    leave_message(display.newest)
    return code


def _check(recipe: Recipe, values: dict[str, Any]) -> None:
    from job.engines import installed

    if recipe.pretrained and not values["init_from"]:
        raise JobError(
            Exit.USAGE, f"recipe {recipe.name} has pretrained = true but no --init-from. Give weights in torchvision's naming, or a run."
        )
    if values["init_from"] and not recipe.pretrained:
        raise JobError(Exit.USAGE, "--init-from goes with pretrained = true. Add `--recipe pretrained` or `--set pretrained=true`.")
    if not values["engine"]:
        if len(installed()) != 1:
            raise JobError(
                Exit.USAGE, f"--engine is missing. Expected torch or tensorflow; installed here: {', '.join(installed()) or 'neither'}."
            )
        values["engine"] = installed()[0]


def _options(values: dict[str, Any]) -> Options:
    given = {field.name: values[field.name] for field in fields(Options) if field.name in values}
    given |= {"cache": values["cache"] or options.cache_folder(), "spool_limit": values["spool_limit"] << 20}
    return Options(**given)
