"""`alexnet pull`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def pull(run: str, folder: Path) -> None:
    """Copy RUN (s3://bucket/prefix/ID or FOLDER/ID) to DIR/ID and verify it.

    After an interruption, the same command continues. DIR can be read like any output folder: `alexnet report DIR/ID`.
    """
    from job.runs.pull import Pull
    from job.runs.results import open_run

    Pull(open_run(run), folder, click.echo).run()
