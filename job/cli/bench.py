"""`alexnet bench`."""

import json
from typing import Any

import click

from job.cli import options
from job.cli.recipes import recipe_options, resolve
from job.core.exits import Exit

QUICK = {"turns": 2, "steps": 1, "size": 512}
TURNS = 5
SIZES = {"cpu": 4096, "gpu": 8192}
"""sides of matrices that are large enough for the peak"""


@click.command()
@options.setting("--engine", type=options.ENGINES, help="Framework to measure. Default: all installed ones, in turn.")
@recipe_options
@options.device
@options.threads
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Steps of each of the five turns; a hundred for a GPU.",
)
@click.option("--quick", is_flag=True, help="Two turns of one step and small products: does it work? Its figures mean little.")
@options.as_json
def bench(as_json: bool, **values: Any) -> int:
    """Measure this machine: the bare step of each engine beside the products of matrices that its library can do, memory, start-up.
    Steps have images of image_size pixels, whatever progressive_resizing says.

    Utilisation is printed if others left the machine alone meanwhile."""
    from job import engines
    from job.bench.contest import Setup, measure
    from job.bench.machine import describe
    from job.bench.page import page
    from job.telemetry.cgroup import usable_cpus

    gpu = values["device"] != "cpu" and bool(describe()["gpus"])
    size = {"turns": TURNS, "steps": values["steps"], "size": SIZES["gpu" if gpu else "cpu"]} | (QUICK if values["quick"] else {})
    setup = Setup(
        recipe=resolve(values).with_values({"progressive_resizing": "none"}),
        engines=(values["engine"],) if values["engine"] else engines.installed(),
        device=values["device"],
        threads=values["threads"] or usable_cpus(),
        **size,
    )
    report = measure(setup, lambda line: click.echo(line, err=True))
    click.echo(json.dumps(report, indent=1) if as_json else page(report))
    return Exit.DONE
