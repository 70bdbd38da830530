"""`alexnet accept`."""

import json
from typing import Any

import click

from job.cli import options
from job.cli.accept_report import report
from job.cli.recipes import pairs, resolve
from job.core.exits import Exit


@click.group(invoke_without_command=True)
@options.setting("--engine", type=options.ENGINES, help="Framework. Default: the one that is installed.")
@pairs
@options.seed
@options.device
@options.threads
@options.setting(
    "--minutes",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="For which rounds are taken, at least two in each precision; 480 for a burn-in.",
)
@click.option("--rounds", metavar="N", type=click.IntRange(1), help="Rounds in each precision, instead of --minutes.")
@click.option("--steps", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="Optimiser steps of a round.")
@click.option(
    "--trace",
    metavar="STEP",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Step of a round whose operations are recorded, to be named where two GPUs part in it; `accept report` tells which.",
)
@options.setting("--output", metavar="FOLDER|s3://…", help="Folder or s3://bucket/prefix for the verdicts. Without it they are only shown.")
@options.setting("--run-id", metavar="NAME", help="Name under which the verdict is stored. Default: node and GPU.")
@options.as_json
@click.pass_context
def accept(context: click.Context, /, as_json: bool, **values: Any) -> int:
    """Examine every GPU of this node: does it compute the same bits in every round, and does it hold up?  Exit code 0, or 71 for a bad GPU.

    Each GPU trains the same seeded network from the same state, round after round, in each precision, in a process of its own; its memory,
    links, clocks and error counters are looked at as well.  No dataset is needed.  `accept report` compares the GPUs of a cluster."""
    if context.invoked_subcommand:
        return Exit.DONE
    from job.acceptance import node
    from job.acceptance.page import page
    from job.storage.opening import open_store
    from job.telemetry.cgroup import usable_cpus

    def say(line: str) -> None:
        click.echo(line, err=True)

    setup = node.Setup(
        engine=values["engine"] or options.only_engine(),
        recipe=resolve({**values, "recipe": "accept"}),
        seed=values["seed"],
        device=values["device"],
        threads=values["threads"] or usable_cpus(),
        steps=values["steps"],
        traced=values["trace"],
        rounds=values["rounds"] or 0,
        minutes=values["minutes"],
        store=open_store(values["output"]) if values["output"] else None,
        name=values["run_id"],
    )
    verdicts = node.accept(setup, node.gpus(setup.device), node.checks, say)
    click.echo(json.dumps(verdicts, indent=1) if as_json else "\n\n".join(map(page, verdicts)))
    return Exit.DEVICE if any(verdict["verdict"] == "fail" for verdict in verdicts) else Exit.DONE


accept.add_command(report)
