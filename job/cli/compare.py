"""`alexnet compare`."""

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--anyway", is_flag=True, help="Give a verdict even where the comparison is unfair; it says so.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def compare(runs: tuple[str, ...], anyway: bool, as_json: bool) -> int:
    """Say whether RUNs (FOLDER/ID or s3://bucket/prefix/ID) differ, on the same test images.

    First comes everything in which the runs differ. Where that makes the comparison unfair, the verdict is withheld and the exit code is 1.
    """
    import json

    from job.analysis import comparison, text
    from job.io.results import read_results

    if len(runs) < 2:
        raise click.UsageError("Give at least two runs, such as runs/A runs/B.")
    found = comparison.compare([read_results(url) for url in runs], anyway=anyway)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else text.table(found))
    return 0 if found.decided else 1
