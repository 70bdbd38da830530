"""`alexnet compare`."""

import click

from job.cli import options

READERS = 16
"""runs that are read in parallel"""

margin_option = click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    metavar="POINTS",
    callback=lambda _context, _option, value: None if value is None else value / 100,  # a share, as everywhere inside
    help="Test as well whether the accuracies are equal within so many percentage points, such as 0.5 (two one-sided tests).",
)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--anyway", is_flag=True, help="Give a verdict even if the comparison is unfair; it then says so.")
@margin_option
@click.option("--strict", is_flag=True, help="Exit with 1 if runs that are equal in all that is recorded differ in their results.")
@options.as_json
def compare(runs: tuple[str, ...], anyway: bool, margin: float | None, strict: bool, as_json: bool) -> int:
    """Test whether the accuracies of RUNs (FOLDER/ID or s3://bucket/prefix/ID) differ on the same test images.

    The output starts with every setting in which the runs differ. If that makes the comparison unfair, the verdict is withheld. A
    difference is always the second minus the first, and the output names both.

    Exit codes: 0 with a verdict, 1 if it is withheld or by --strict, 2 if a run does not exist, has not ended or is given twice,
    65 if one is damaged.
    """
    import json
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import asdict

    from job.analysis import comparison, text
    from job.runs.results import read_results

    if len(runs) < 2:
        raise click.UsageError("Give at least two runs, such as runs/A runs/B.")
    with ThreadPoolExecutor(READERS) as pool:
        results = list(pool.map(read_results, runs))
    found = comparison.compare(results, anyway=anyway, margin=margin)
    click.echo(json.dumps(asdict(found), indent=1) if as_json else text.table(found))
    return 0 if found.decided and not (strict and found.irreproducible) else 1
