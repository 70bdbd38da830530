"""`alexnet watch`."""

import sys
import time
from contextlib import suppress

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--seconds", metavar="N", type=click.IntRange(1), default=5, show_default=True, help="Between two looks at the runs.")
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option("--html", is_flag=True, help="Serve the page of `alexnet report` on loopback instead, refreshed while the runs work.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="For --html. Default: a free one.")
def watch(runs: tuple[str, ...], seconds: int, once: bool, html: bool, port: int) -> None:
    """Show RUNs (FOLDER/ID or s3://bucket/prefix/ID) while they work: curves, progress, time left, images/s, last sign.

    On a terminal the runs are drawn side by side, else a line is printed for each when something changes. It ends when none is at work any
    more; Ctrl-C ends it earlier, and does not touch the runs.
    """
    from concurrent.futures import ThreadPoolExecutor

    from job.cli.compare import READERS
    from job.runs.results import open_run
    from job.runs.snapshot import Observer

    with ThreadPoolExecutor(READERS) as pool:
        observers = [Observer(run) for run in pool.map(open_run, runs)]
        if html:
            from job.watch.serve import PageServer

            server = PageServer(observers, port=port, seconds=seconds)
            click.echo(f"{server.url} shows {len(observers)} run{'s' if len(observers) > 1 else ''} until Ctrl-C")
            with suppress(KeyboardInterrupt):
                server.run()
            return
        if sys.stdout.isatty() and not once:
            from job.watch.live import draw

            draw(observers, pool, seconds)
            return
        from job.watch.screen import facts, line

        said: dict[str, list[str]] = {}
        while True:
            snapshots = list(pool.map(Observer.snapshot, observers))
            for run in snapshots:
                if said.get(run.url) != (news := [*facts(run), run.state]):
                    said[run.url] = news
                    click.echo(line(run))
            if once or not any(run.state == "running" for run in snapshots):
                return
            time.sleep(seconds)
