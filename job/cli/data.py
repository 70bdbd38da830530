"""`alexnet data push`."""

from pathlib import Path

import click

from job.cli import options


@click.group()
def data() -> None:
    """Store datasets."""


@data.command()
@click.argument("source", metavar="cifar10|FOLDER|ARCHIVE")
@click.argument("target", metavar="s3://…")
@options.mirror
@options.cache
def push(source: str, target: str, mirror: str | None, cache: Path | None) -> None:
    """Copy a dataset to a store, for machines that cannot reach its origin; `alexnet train --data s3://…` reads it.

    It is stored as .bin files in the layout of CIFAR-10, and every file is read back and verified. It is safe to repeat.
    """
    from job.data import bucket, sources
    from job.storage.opening import open_store

    store = open_store(target)
    bucket.push_dataset(sources.load(source, cache=cache or options.cache_folder(), mirror=mirror), store, click.echo)
