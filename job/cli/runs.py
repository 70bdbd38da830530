"""`alexnet runs`."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import click

from job.analysis.formatting import ago, columns, date, duration, percent, shortened
from job.cli import options
from job.core.exits import Exit, JobError
from job.runs.listing import STATES, Row, list_runs, runs_below, sorted_rows
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.store import Store

SORT_KEYS = ("run", "engine", "recipe", "epoch", "test_accuracy", "images_per_second", "begun", "seconds", "state", "age")
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """Seconds since 1970, from a date (UTC) or an age."""

    name = "DATE|AGE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        if age := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            return time.time() - int(age[1]) * UNITS[age[2]]
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        except ValueError:
            self.fail(f"{text!r} is neither a date, such as 2026-11-25, nor an age, such as 90m, 12h, 7d or 2w.", param, ctx)


@click.command()
@click.argument("where", metavar="FOLDER|s3://…", envvar="ALEXNET_OUTPUT", default="runs")
@click.option(
    "--sort",
    type=click.Choice(SORT_KEYS),
    default="run",
    show_default=True,
    help="Column to sort by; the largest epochs, accuracies and speeds and the newest runs come first.",
)
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only runs in this state; may be repeated.")
@click.option("--recipe", "recipes", metavar="NAME", multiple=True, help="Only runs of this recipe; may be repeated.")
@click.option(
    "--since", type=Moment(), help="Only runs that began after a date (UTC), such as 2026-11-25, or an age ago, such as 12h or 7d."
)
@options.as_json
def runs(where: str, sort: str, states: tuple[str, ...], recipes: tuple[str, ...], since: float | None, as_json: bool) -> None:
    """List the runs in a folder or a bucket: engine, recipe, epochs, test accuracy, speed, when it began, how long it took, and state.

    Dates are UTC, by the store's clock.
    """
    store = open_store(where)
    every = list_runs(store)
    if not every:
        _explain(store, where)
    found = [
        row
        for row in sorted_rows(every, sort)
        if row.state in (states or (row.state,)) and row.recipe in (recipes or (row.recipe,)) and (row.begun or 0) >= (since or 0)
    ]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in found], indent=1))
    elif found:
        click.echo(_table(found))
    elif every:
        click.echo(f"None of the {len(every)} runs in {where} is as asked for.")


def _explain(store: Store, where: str) -> None:
    """Why there are no runs, on stderr.  Raises JobError (2) where the place cannot be what was meant."""
    if isinstance(store, FolderStore) and not store.root.is_dir():
        raise JobError(
            Exit.USAGE, f"{where}: there is no such folder. Expected the place that holds runs, the --output of `alexnet train`."
        )
    if store.list("run.json"):
        raise JobError(Exit.USAGE, f"{where} is a run itself. Expected the place that holds it, one level up.")
    below = [f"{where.rstrip('/')}/{name}" for name in runs_below(store)]
    click.echo(f"There are no runs in {where}{f', but one level down, in {shortened(below)}' if below else ''}.", err=True)


def _table(rows: Sequence[Row]) -> str:
    table = [["run", "engine", "recipe", "epochs", "test accuracy", "images/s", "begun (UTC)", "took", "state"]]
    for row in rows:
        epochs = "—" if row.epoch is None else f"{row.epoch}/{row.epochs}"
        accuracy = "—" if row.test_accuracy is None else percent(row.test_accuracy)
        speed = "—" if row.images_per_second is None else f"{row.images_per_second:.0f}"
        speed = " → ".join(f"{one['images_per_second']:.0f}" for one in row.speeds or ()) or speed
        state = row.state if row.age is None or row.state == "stalled" else f"{row.state}, last sign {ago(row.age)}"
        state += f": {row.reason[:60]}" if row.reason and row.state != "finished" else ""
        begun = "—" if row.begun is None else date(row.begun)
        took = "—" if row.seconds is None else duration(row.seconds)
        table.append([row.run, row.engine or "—", row.recipe or "—", epochs, accuracy, speed, begun, took, " ".join(state.split())])
    return columns(table)
