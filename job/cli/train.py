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
from job.core.place import ALONE, Place, given_place
from job.core.recipe import Recipe, to_toml
from job.core.sharding import check_power_of_two, check_shards
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
@options.setting("--workers", metavar="N", type=click.IntRange(1), help="Processes that share each step, a power of two. Default: 1.")
@options.setting("--gpus", metavar="N|all", help="So many workers, a GPU of this machine each.")
@options.setting(
    "--shards",
    metavar="N",
    type=click.IntRange(1),
    help="Gradients that each step adds up, a power of two: the most workers that a run can have, with the same results for any number. "
    "Default: the workers of its start.",
)
@options.setting(
    "--coordinator",
    metavar="HOST:PORT",
    help="Be one of --workers that were started elsewhere, its rank in JOB_COMPLETION_INDEX; they meet at this port of worker 0.",
)
@options.seconds("--worker-timeout", 60.0, "Silence after which another worker counts as gone.")
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
    warnings: list[str] = []
    recipe = resolve(values, warnings.append if values["log_format"] == "json" and not values["dry_run"] else None)
    if values["dry_run"]:
        click.echo(to_toml(recipe), nl=False)
        return Exit.DONE
    if values["run_id"] is None and "ALEXNET_RUN_ID" in os.environ:
        values["run_id"] = ""  # set but empty, which click takes for not set
    _check(recipe, values)
    workers = _workers(values)
    place = given_place(os.environ, engine=values["engine"], coordinator=values["coordinator"], workers=workers)
    shards = values["shards"] or (place.workers if place else workers or 1)
    check_power_of_two("--workers", place.workers if place else workers or 1)
    if values["shards"] or workers:
        check_shards(recipe.batch_size, shards, place.workers if place else workers or 1)
    if place is None and (workers or 1) > 1:
        return _launch(recipe, values, workers or 1)
    if place is not None and not values["run_id"]:
        raise JobError(Exit.USAGE, "--run-id is missing, by which the workers of a run find each other's. Give all of them the same.")
    place = place or ALONE
    stop = StopSignal(values["grace"])  # before a framework is imported
    display = Display(values["log_format"], worker=place.rank)
    for line in warnings:
        display.say(line, level="warning")
    display.say(f"{values['engine']}, recipe {recipe.name}, data {without_secrets(values['data'])}: checking and loading")
    try:
        from job.training import start

        code = start.train(recipe, _options(values, place), stop, display)
    except Stopped:
        display.say("stopped before any progress: nothing was stored", event="stopped")
        code = Exit.INTERRUPTED if stop.number == signal.SIGINT else Exit.NOT_STORED
    except Exception as error:
        return display.fail(error)
    finally:
        display.close()
    if place.leads:
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


def _workers(values: dict[str, Any]) -> int | None:
    """How many are asked for; None: nobody said.  `--gpus` asks for GPUs as well."""
    from job.telemetry.gpu import NoDriver, devices

    if (gpus := values["gpus"]) is None:
        return None if values["workers"] is None else int(values["workers"])
    if values["workers"] is not None:
        raise JobError(
            Exit.USAGE, f"--gpus {gpus} and --workers {values['workers']} both say how many workers there are. Give one of them."
        )
    values["device"] = "cuda"
    if gpus == "all":
        try:
            return len(devices())
        except NoDriver as error:
            raise JobError(Exit.CONFIGURATION, f"--gpus all: {error}. Expected a GPU for each worker; --workers N takes CPUs.") from None
    if not gpus.isdigit() or int(gpus) < 1:
        raise JobError(Exit.USAGE, f"--gpus {gpus}: expected a number from 1, or all.")
    return int(gpus)


def _launch(recipe: Recipe, values: dict[str, Any], workers: int) -> int:
    """Start the workers, and wait for them."""
    from job.training.start import new_id
    from job.workers.launcher import Launcher, environments, same_command

    run_id = values["run_id"] if values["run_id"] is not None else new_id(recipe, values["engine"])
    variables = {**os.environ, "ALEXNET_RUN_ID": run_id, "ALEXNET_ENGINE": values["engine"]}
    places = environments(values["engine"], workers, variables)
    return Launcher(same_command(), places, silence=values["worker_timeout"], flush=values["flush_timeout"]).run()


def _options(values: dict[str, Any], place: Place) -> Options:
    given = {field.name: values[field.name] for field in fields(Options) if field.name in values}
    given |= {"place": place, "cache": values["cache"] or options.cache_folder(), "spool_limit": values["spool_limit"] << 20}
    return Options(**given)
