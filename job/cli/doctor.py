"""`alexnet doctor`."""

import json
import os
import signal
import sys
from typing import Any

import click

from job.cli import options
from job.cli.recipes import recipe_options, resolve
from job.core.exits import Exit

COLORS = {"pass": "green", "warn": "yellow", "fail": "red"}


@click.command()
@options.setting("--output", metavar="FOLDER|s3://…", help="Folder or s3://bucket/prefix to check. Without it no store is checked.")
@options.setting(
    "--data", metavar="cifar10|digits|PATH|s3://…", help="Dataset to read, as for `alexnet train`. Without it no dataset is checked."
)
@options.setting("--engine", type=options.ENGINES, help="Framework to check. Default: all that are installed.")
@recipe_options
@options.device
@options.mirror
@options.cache
@options.spool
@options.grace
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the page.")
def doctor(as_json: bool, **values: Any) -> int:
    """Check whether this node and this store can run the job, on one page.  Exit code 0, or 78 if a check fails."""
    from job import engines
    from job.doctor import examine
    from job.doctor.page import Setup

    recipe = resolve(values)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.TERMINATED))  # an exception, so that stored objects are deleted
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")  # the page takes a minute: few retries if the store is away
    setup = Setup(
        recipe=recipe,
        engines=(values["engine"],) if values["engine"] else engines.installed(),
        device=values["device"],
        output=values["output"],
        data=values["data"],
        mirror=values["mirror"],
        cache=values["cache"] or options.cache_folder(),
        spool=values["spool"],
        grace=values["grace"],
    )
    lines = []
    for line in examine(setup):
        lines.append(line)
        if not as_json:
            click.echo(f"{click.style(line.level, fg=COLORS[line.level])}  {line.check:<18} {line.reason}")
            if line.remedy:
                click.echo(f"{'':<25}→ {line.remedy}")
    failed = sum(line.level == "fail" for line in lines)
    if as_json:
        click.echo(json.dumps({"ok": not failed, "recipe": recipe.name, "lines": [line.as_dict for line in lines]}, indent=1))
    else:
        skipped = [f"--{name}" for name in ("output", "data") if values[name] is None]
        note = f" Not looked at, as not given: {', '.join(skipped)}." if skipped else ""
        click.echo(f"{len(lines)} checks, {failed} failed.{note}")
    return Exit.CONFIGURATION if failed else Exit.DONE
