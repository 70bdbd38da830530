"""`alexnet data push`."""

from pathlib import Path

import click


@click.group()
def data() -> None:
    """Datasets in a store."""


@data.command()
@click.argument("source", metavar="cifar10|FOLDER|ARCHIVE")
@click.argument("target", metavar="s3://…")
@click.option("--mirror", envvar="ALEXNET_MIRROR", help="URL to download CIFAR-10 from.")
@click.option(
    "--cache", envvar="ALEXNET_CACHE", type=click.Path(path_type=Path), help="Folder for downloads. Default: $XDG_CACHE_HOME/alexnet."
)
def push(source: str, target: str, mirror: str | None, cache: Path | None) -> None:
    """Put a dataset into the store once, for networks that cannot reach its origin; `alexnet train --data s3://…` reads it.

    It is stored as .bin files in the layout of CIFAR-10, and every file is read back. It is safe to repeat.
    """
    from job.cli.train import cache_folder
    from job.io import copies, dataset
    from job.io.store import open_store

    store = open_store(target)
    copies.push_dataset(dataset.load(source, cache=cache or cache_folder(), mirror=mirror), store, click.echo)
