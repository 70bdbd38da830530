"""`alexnet trace`."""

import os
import tempfile
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from job.cli import options
from job.cli.recipes import recipe_options, resolve
from job.core.exits import Exit


@click.command()
@options.setting("--engine", type=options.ENGINES, help="Framework. Default: the one that is installed.")
@recipe_options
@options.seed
@click.option(
    "--steps", metavar="N", type=click.IntRange(1), default=50, show_default=True, help="Training steps, over which the schedule runs."
)
@click.option(
    "--at",
    metavar="STEP",
    type=int,
    multiple=True,
    show_default="0, 1, 4, -1",
    help="Step to record in full, from 0; -1 is the last. May be repeated.",
)
@options.device
@options.setting("--threads", metavar="N", type=click.IntRange(1, 1024), help="CPU threads. Default: all CPUs of the process.")
@click.option("--output", required=True, metavar="FILE|s3://…", help="Safetensors file to write.")
def trace(**values: Any) -> int:
    """Record what --steps training steps compute, on generated images; no dataset is needed.

    In float64 (the default, --precision fp64) two engines differ only by rounding, which `alexnet parity` proves; runs use
    fp32 or bf16, which it judges as well.  With --width 0.0625 --image-size 64 --batch-size 8 it takes seconds.
    """
    recipe = resolve(values)
    recipe = recipe.with_values({"precision": "fp64"}) if recipe.precision == "auto" else recipe
    from job import engines
    from job.parity import record
    from job.parity.tracefile import TraceWriter
    from job.storage.opening import split

    at = record.observed_steps(values["at"], values["steps"])
    store, key = split(values["output"])
    store.list(key)  # a missing bucket is reported before the work, not after it
    threads = values["threads"] or len(os.sched_getaffinity(0))
    engine = engines.open_engine(values["engine"] or options.only_engine(), device=values["device"], threads=threads)
    with tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        writer = TraceWriter(Path(folder))
        bar = tqdm(total=values["steps"], unit="step", disable=None)  # None: no bar where there is no terminal
        with bar, engines.translated(engine):
            facts = record.trace(engine, recipe, writer, seed=values["seed"], steps=values["steps"], at=at, advance=bar.update)
        path = Path(folder) / "trace.safetensors"
        writer.finish(path, {**facts, "threads": threads})
        size = path.stat().st_size
        store.move(path, key)
    click.echo(f"{values['steps']} steps of {recipe.name} in {recipe.precision} by {engine.name}: {values['output']}, {size / 1e6:.1f} MB")
    return Exit.DONE
