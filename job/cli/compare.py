"""`alexnet compare`."""

import click

READERS = 16
"""runs that are read at the same time"""


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--anyway", is_flag=True, help="Give a verdict even where the comparison is unfair; it says so.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def compare(runs: tuple[str, ...], anyway: bool, as_json: bool) -> int:
    """Say whether RUNs (FOLDER/ID or s3://bucket/prefix/ID) differ, on the same test images.

    First comes everything in which the runs differ. Where that makes the comparison unfair, the verdict is withheld.

    Exit codes: 0 with a verdict, 1 if it is withheld, 2 where there is no run or it has not ended, 65 if one is damaged.
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
    found = comparison.compare(results, anyway=anyway)
    click.echo(json.dumps(asdict(found), indent=1) if as_json else text.table(found))
    return 0 if found.decided else 1
