"""`alexnet train`."""

import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from job.cli import options
from job.cli.recipes import recipe_options, resolve
from job.core.exits import Exit, JobError
from job.core.recipe import Recipe, to_toml
from job.training.stopping import Stopped, StopSignal


class Display:
    """A progress bar on a terminal, plain lines in a log, or an object of JSON for each line."""

    def __init__(self, form: str = "auto") -> None:
        self.bar: tqdm[Any] | None = None
        self.json = form == "json"
        self.terminal = form == "auto" and sys.stderr.isatty()

    def say(self, line: str, **facts: Any) -> None:
        if self.terminal:
            tqdm.write(line, file=sys.stderr)
            return
        stamp = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "message": line}
        try:
            print(json.dumps(stamp | facts) if self.json else f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
        except BrokenPipeError:  # whoever read the log is gone; the run goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def show(self, step: int, total: int, loss: float, speed: float) -> None:
        if not self.terminal:
            facts = {"step": step, "steps": total, "loss": loss, "images_per_second": speed} if self.json else {}
            self.say(f"step {step}/{total}: loss {loss:.4f}, {speed:.0f} images/s", **facts)
            return
        if self.bar is None:
            self.bar = tqdm(total=total, initial=step, unit="step", file=sys.stderr, dynamic_ncols=True)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix_str(f"loss {loss:.3f}, {speed:.0f} images/s")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


@click.command()
@click.option("--engine", envvar="ALEXNET_ENGINE", type=options.ENGINES, help="The framework. An image has its own default.")
@recipe_options
@click.option(
    "--data",
    envvar="ALEXNET_DATA",
    default="cifar10",
    show_default=True,
    help="cifar10, digits, a folder or archive in CIFAR-10's binary layout, or s3://… as `alexnet data push` fills it.",
)
@click.option("--output", envvar="ALEXNET_OUTPUT", default="runs", show_default=True, help="Folder or s3://bucket/prefix for the results.")
@click.option("--run-id", envvar="ALEXNET_RUN_ID", help="Name of the run; the same name continues it. Default: a new, unique one.")
@click.option("--seed", envvar="ALEXNET_SEED", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@options.device
@click.option(
    "--threads", envvar="ALEXNET_THREADS", type=click.IntRange(1, 1024), help="CPU threads. Default: the CPUs that the container may use."
)
@click.option(
    "--init-from",
    envvar="ALEXNET_INIT_FROM",
    help="Weights for pretrained = true: .safetensors or .pth file, its http(s):// or s3:// URL, or a finished run.",
)
@click.option(
    "--subset", envvar="ALEXNET_SUBSET", type=click.IntRange(1), help="Use only the first N training images, and N/5 test images."
)
@options.mirror
@options.cache
@click.option("--log-steps", type=click.IntRange(1), default=50, show_default=True, help="Steps between two lines of the log.")
@click.option("--checkpoint-steps", type=click.IntRange(0), default=0, help="Also store a checkpoint every so many steps.")
@options.grace
@options.seconds("--flush-timeout", 600.0, "How long the end of a run waits for the store.")
@options.spool
@click.option(
    "--spool-limit",
    envvar="ALEXNET_SPOOL_LIMIT",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    metavar="MIB",
    help="What may wait for upload before training waits.",
)
@click.option(
    "--log-format",
    envvar="ALEXNET_LOG_FORMAT",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="auto: a progress bar on a terminal, else text.",
)
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and end.")
def train(**values: Any) -> int:
    """Train, evaluate on the whole test set, and leave everything in --output/RUN_ID."""
    recipe = resolve(values)
    if values["dry_run"]:
        click.echo(to_toml(recipe), nl=False)
        return Exit.DONE
    if values["run_id"] is None and "ALEXNET_RUN_ID" in os.environ:
        values["run_id"] = ""  # set but empty, which click takes for not set
    _check(recipe, values)
    stop, display = StopSignal(values["grace"]), Display(values["log_format"])  # before a framework is imported
    try:
        return _train(recipe, values, stop, display)
    except Stopped:  # before there was a training
        display.say("stopped before any progress: nothing was stored")
        return Exit.INTERRUPTED if stop.number == signal.SIGINT else Exit.NOT_STORED
    finally:
        display.close()


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


def _train(recipe: Recipe, values: dict[str, Any], stop: StopSignal, display: Display) -> int:
    from job import engines
    from job.analysis.efficiency import closing_lines
    from job.data import dataset, sources
    from job.runs.pretrained import fetch_weights
    from job.runs.run import Run
    from job.storage.opening import open_store
    from job.telemetry.cgroup import usable_cpus
    from job.training.loop import Training
    from job.training.progress import Options, peak_memory

    run = Run(open_store(values["output"]), _new_id(recipe, values["engine"]) if values["run_id"] is None else values["run_id"])
    where = f"{run.store.url.rstrip('/')}/{run.id}"
    if (summary := run.summary()) is not None:
        display.say(f"run {run.id} is finished: test accuracy {summary['test_accuracy']:.2%}; nothing to do. Results: {where}")
        return Exit.DONE
    stored = run.read("run.json")
    threads = stored["threads"] if stored else values["threads"] or usable_cpus()
    engine = engines.open_engine(values["engine"], device=values["device"], threads=threads)
    cache = values["cache"] or cache_folder()
    data = sources.load(values["data"], cache=cache, mirror=values["mirror"], progress=_progress(display))
    if values["subset"]:
        data = dataset.subset(data, values["subset"])
    device = engine.environment()["device"]
    note = " (no GPU in use; --device cuda insists on one)" if device == "cpu" and values["device"] == "auto" else ""
    display.say(f"run {run.id}: {engine.name} on {device}{note}, recipe {recipe.name}, data {data.name}, results in {where}")
    training = Training(
        engine=engine,
        recipe=recipe,
        data=data,
        run=run,
        options=Options(
            seed=values["seed"],
            threads=threads,
            log_steps=values["log_steps"],
            checkpoint_steps=values["checkpoint_steps"],
            flush_timeout=values["flush_timeout"],
            spool=values["spool"],
            spool_limit=values["spool_limit"] << 20,
            image=os.environ.get("ALEXNET_IMAGE", ""),
        ),
        init_from=fetch_weights(values["init_from"], cache, _progress(display)) if values["init_from"] else None,
        stop=stop,
        say=display.say,
        show=display.show,
    )
    try:
        summary = training()
    except Stopped as stopped:
        return _stopped(training, stop, display, str(stopped))
    except JobError as error:
        if run.attempt and error.code is not Exit.DONE and stop.left() > 0:
            _record_end(training, error.code, str(error))
        raise
    except Exception as error:
        if run.attempt:
            _record_end(training, Exit.INTERNAL, f"internal error: {type(error).__name__}")
        raise
    _record_end(training, Exit.DONE, "finished", peak_host_memory_bytes=peak_memory())
    for line in closing_lines(summary):
        display.say(line)
    low, high = summary["test_accuracy_interval_95"]
    display.say(
        f"finished: test accuracy {summary['test_accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}) "
        f"on {summary['test_images']} images, "
        f"training accuracy {summary['train_accuracy']:.2%}, {summary['images_per_second']:.0f} images/s, "
        f"peak host memory {summary['peak_host_memory_bytes'] / 1e9:.2f} GB. Results: {where}"
    )
    return Exit.DONE


def _stopped(training: Any, stop: StopSignal, display: Display, kept: str) -> int:
    """143 only where this attempt has stored progress.  `kept`: a sentence on what is not stored."""
    if stop.number == signal.SIGINT:
        code, reason = Exit.INTERRUPTED, "stopped by Ctrl-C"
    elif training.has_stored_progress:
        code, reason = Exit.TERMINATED, "stopped by SIGTERM"
    else:
        code, reason = Exit.NOT_STORED, "stopped by SIGTERM before any progress"
    if training.run.attempt and stop.left() > 0:
        _record_end(training, code, reason)
    stored = f"a checkpoint of step {training.stored_step} is stored" if training.has_stored_progress else "nothing new was stored"
    display.say(f"{reason}: {stored}. Continue with the same command and --run-id {training.run.id}. {kept}".removesuffix(". "))
    return code


def _record_end(training: Any, code: Exit, reason: str, **facts: Any) -> None:
    from job.storage.errors import StoreError

    try:
        training.run.end(code, reason, **training.status(), **facts)
    except StoreError as error:  # the first failure is the one to report
        click.echo(f"alexnet: end.json could not be stored: {error}", err=True)


def _new_id(recipe: Recipe, engine: str) -> str:
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in recipe.name).strip("-") or "run"
    return f"{name[:40]}-{engine}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alexnet"


def _progress(display: Display) -> Callable[[int, int | None], None]:
    shown = [-1]

    def progress(received: int, total: int | None) -> None:
        tenth = received * 10 // total if total else received // 10_000_000
        if tenth != shown[0]:
            shown[0] = tenth
            display.say(f"downloading: {received / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"downloading: {received / 1e6:.0f} MB")

    return progress
