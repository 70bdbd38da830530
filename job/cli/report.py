"""`alexnet report`."""

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output", default="report", show_default=True, metavar="FOLDER|s3://…", help="Where report.html and the figures as PNG files go."
)
@click.option("--anyway", is_flag=True, help="Give a verdict even where the comparison is unfair; it says so.")
def report(runs: tuple[str, ...], output: str, anyway: bool) -> None:
    """Write one self-contained page about RUNs (FOLDER/ID or s3://bucket/prefix/ID): figures, curves, statistics, what differs."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from job.analysis.report import write_report
    from job.io.results import read_results
    from job.io.store import open_store

    store = open_store(output)
    found = [read_results(url) for url in runs]
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        figures = write_report(found, page, anyway=anyway)
        store.put("report.html", page)
    for name, data in figures.items():
        store.put(name, data)
    click.echo(f"{output.rstrip('/')}/report.html")
