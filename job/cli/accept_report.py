"""`alexnet accept report`."""

import click


@click.command()
@click.argument("where", metavar="FOLDER|s3://…")
@click.option(
    "--expect", metavar="N", type=click.IntRange(1), help="GPUs that there should be, so that those without a sign of life are missed."
)
@click.option(
    "--reference",
    metavar="FOLDER/NAME|s3://…/NAME",
    help="A GPU that is known to be good. Its bytes are right for its group, whatever the majority has.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "name"]),
    default="text",
    show_default=True,
    help="text: a line for each node. json: everything. name: node/NAME of the nodes with a GPU that fails or is suspect.",
)
@click.option(
    "--output", metavar="FOLDER|FILE.html|s3://…", help="Also write one self-contained page (accept.html, unless this names a file)."
)
def report(where: str, expect: int | None, reference: str | None, form: str, output: str | None) -> int:
    """Judge the GPUs whose verdicts `alexnet accept` stored below one place: whose bytes differ, which are slow, hot or silent, and why.

    Exit codes: 0 if all pass, 71 if a GPU fails or is suspect, 74 if one did not report, 2 if there is no verdict.
    """
    import json

    from job.core.exits import Exit, JobError
    from job.fleet import text
    from job.fleet.judgement import judge
    from job.fleet.locating import Locator
    from job.fleet.page import fleet_page
    from job.fleet.reading import read_reference, read_reports
    from job.storage.opening import open_store, split_page

    store = open_store(where)
    good = read_reference(reference) if reference else None
    reports = read_reports(store)
    if not reports:
        raise JobError(Exit.USAGE, f"{where}: there are no verdicts. Expected the --output of `alexnet accept`.")
    known = {report.name: report for report in (*([good] if good else []), *reports)}
    fleet = judge(reports, expect=expect, reference=good, locate=Locator(known))
    if output:
        place, name = split_page(output, "accept.html")
        place.put(name, fleet_page(fleet, store.url).encode())
    told = json.dumps(text.as_json(fleet), indent=1) if form == "json" else text.names(fleet) if form == "name" else text.text(fleet)
    click.echo(told, nl=bool(told))
    return fleet.exit_code
