"""`alexnet pull`."""

from pathlib import Path

import click


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--follow", "following", is_flag=True, help="First wait until RUN is done, while `tensorboard --logdir DIR` shows its curves."
)
@click.option(
    "--seconds", metavar="N", type=click.IntRange(1), default=15, show_default=True, help="For --follow: between two looks at RUN."
)
def pull(run: str, folder: Path, following: bool, seconds: int) -> None:
    """Copy RUN (s3://bucket/prefix/ID or FOLDER/ID) to DIR/ID and verify it.

    After an interruption, the same command continues. DIR can be read like any output folder: `alexnet report DIR/ID`.
    """
    from job.runs.pull import Pull
    from job.runs.results import open_run
    from job.runs.snapshot import Observer
    from job.watch.follow import follow

    source = Pull(opened := open_run(run), folder, click.echo)
    if following:
        follow(Observer(opened), folder, click.echo, seconds)
    source.run()
