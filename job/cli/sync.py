"""`alexnet sync`."""

from pathlib import Path

import click

from job.cli import options


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.argument("target", metavar="s3://…|FOLDER")
@options.seconds("--flush-timeout", 600.0, "How long a store that takes nothing is tried again. 0: once.")
def sync(folder: Path, target: str, flush_timeout: float) -> None:
    """Upload the runs in DIR, such as the folder that a run left because its store was away, to a store.

    Objects that the store already has are not sent again, and nothing is overwritten. The summary is uploaded last, so that a run counts
    as finished only when it is complete. A store that is away is waited for. It is safe to repeat.
    """
    from job.runs.sync import sync as deliver
    from job.storage.opening import open_store

    deliver(folder, open_store(target), click.echo, flush_timeout)
