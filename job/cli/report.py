"""`alexnet report`."""

import click

from job.cli.compare import READERS, margin_option


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    default="report",
    show_default=True,
    metavar="FOLDER|FILE.html|s3://…",
    help="Where to write the page (report.html, unless this names a file) and, beside it, the figures as PNG files.",
)
@click.option("--anyway", is_flag=True, help="Give a verdict even if the comparison is unfair; it then says so.")
@margin_option
def report(runs: tuple[str, ...], output: str, anyway: bool, margin: float | None) -> None:
    """Write one self-contained page about RUNs (FOLDER/ID or s3://bucket/prefix/ID): figures, curves, statistics, settings that differ.

    Where one of them is at work or was stopped, the page shows how far they are, with curves up to the newest checkpoint.
    """
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from job.analysis.progress_page import write_page
    from job.runs.results import open_run
    from job.runs.snapshot import Observer
    from job.storage.files import local_errors
    from job.storage.opening import split_page

    store, name = split_page(output, "report.html")
    with ThreadPoolExecutor(READERS) as pool:
        observers = [Observer(run) for run in pool.map(open_run, runs)]
    with TemporaryDirectory() as folder, local_errors(Path(folder)):
        page = Path(folder) / "page.html"
        figures = write_page(observers, page, anyway=anyway, margin=margin)
        store.put(name, page)
    for figure, data in figures.items():
        store.put(figure, data)
    click.echo(f"{store.url.rstrip('/')}/{name}")
