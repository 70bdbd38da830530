"""`alexnet runs`."""

import click

from job.cli import options

SORT_KEYS = ("run", "engine", "recipe", "epoch", "test_accuracy", "images_per_second", "state", "age")


@click.command()
@click.argument("where", metavar="FOLDER|s3://…", envvar="ALEXNET_OUTPUT", default="runs")
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    default="run",
    show_default=True,
    help="Column to sort by; the largest epochs, accuracies and speeds come first.",
)
@options.as_json
def runs(where: str, sort: str, as_json: bool) -> None:
    """List the runs in a folder or a bucket: engine, recipe, epochs, test accuracy, speed and state."""
    import json
    from dataclasses import asdict

    from job.analysis.formatting import ago, columns, percent
    from job.core.exits import Exit, JobError
    from job.runs.listing import list_runs, sorted_rows
    from job.storage.opening import open_store

    store = open_store(where)
    found = sorted_rows(list_runs(store), sort)
    if not found and store.list("run.json"):
        raise JobError(Exit.USAGE, f"{where} is a run itself. Expected the place that holds it, one level up.")
    if as_json:
        click.echo(json.dumps([asdict(row) for row in found], indent=1))
        return
    if not found:
        click.echo(f"There are no runs in {where}.")
        return
    table = [["run", "engine", "recipe", "epochs", "test accuracy", "images/s", "state"]]
    for row in found:
        epochs = "—" if row.epoch is None else f"{row.epoch}/{row.epochs}"
        accuracy = "—" if row.test_accuracy is None else percent(row.test_accuracy)
        speed = "—" if row.images_per_second is None else f"{row.images_per_second:.0f}"
        speed = " → ".join(f"{one['images_per_second']:.0f}" for one in row.speeds or ()) or speed
        state = row.state if row.age is None or row.state == "stalled" else f"{row.state}, last sign {ago(row.age)}"
        state += f": {row.reason[:60]}" if row.reason and row.state != "finished" else ""
        table.append([row.run, row.engine or "—", row.recipe or "—", epochs, accuracy, speed, " ".join(state.split())])
    click.echo(columns(table))
