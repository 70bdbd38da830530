"""What a run looks like in a terminal: where it stands, how long it will take, its curves; and the same in one line for a log."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from job.analysis.formatting import ago, duration, percent
from job.runs.snapshot import Snapshot
from job.watch.braille import Curve, plot

STYLES = {"running": "bold green", "finished": "bold blue", "interrupted": "bold yellow", "failed": "bold red"}
TRAINING, TEST = "yellow", "cyan"
NARROWEST = 44
"""columns of a run's panel"""
PLOT_HEIGHT = 7
"""lines"""


def screen(runs: Sequence[Snapshot], *, width: int) -> RenderableType:
    """All runs side by side, as many in a row as fit."""
    beside = max(min(len(runs), width // NARROWEST), 1)
    grid = Table.grid(expand=True)
    for _ in range(beside):
        grid.add_column(ratio=1)
    for start in range(0, len(runs), beside):
        panels: list[RenderableType] = [panel(run, width=width // beside) for run in runs[start : start + beside]]
        grid.add_row(*panels, *[""] * (beside - len(panels)))
    return grid


def panel(run: Snapshot, *, width: int) -> Panel:
    inner = width - 4
    parts: list[RenderableType] = [headline(run)]
    if run.steps:
        done = inner * run.step // run.steps
        parts.append(Text.assemble(("━" * done, "green"), ("━" * (inner - done), "dim")))
    parts += [Text(" · ".join(facts(run))), *curves(run, inner)]
    words = [word for word in (run.reason if run.state != "finished" else None, run.advice) if word]
    parts += [Text(word, style="italic") for word in words]
    return Panel(Group(*parts), title=Text(run.id), title_align="left", width=width)


def headline(run: Snapshot) -> Text:
    text = Text(run.state, style=STYLES.get(run.state, "bold"))
    if run.age is not None:
        text.append(f", last sign {ago(run.age)}", style="default")
    if (left := run.seconds_left) is not None:
        text.append(f", {duration(left)} left", style="bold default")
    return text


def facts(run: Snapshot) -> list[str]:
    """Epochs, steps, speed, loss and accuracy, as far as they are known."""
    found = [f"epoch {run.epoch}/{run.epochs}"]
    if run.steps is not None:
        found.append(f"step {run.step:,}/{run.steps:,}")
    if run.latest is not None:
        loss, speed = run.latest
        found += [f"{speed:,.0f} images/s", f"loss {loss:.3f}"]
    if run.summary is not None:
        found.append(f"test accuracy {percent(run.summary['test_accuracy'])}")
    elif epochs := run.epoch_lines:
        found.append(f"test accuracy {percent(epochs[-1]['test_accuracy'])}")
    return found


def curves(run: Snapshot, width: int) -> list[RenderableType]:
    """Loss of the logging intervals and of the test set, and accuracies, against epochs; nothing before there is a checkpoint."""
    epochs, intervals = run.epoch_lines, [line for line in run.lines if line["kind"] == "interval"]
    if not intervals:
        return [Text("No checkpoint is stored yet: the curves come with the first.", style="dim")]
    steps = epochs[0]["step"] if epochs else (run.steps or intervals[-1]["step"]) / run.epochs
    loss = [
        Curve(points=[(line["step"] / steps, line["loss"]) for line in intervals], style=TRAINING),
        Curve(points=[(line["epoch"], line["test_loss"]) for line in epochs], style=TEST),
    ]
    accuracy = [
        Curve(points=[(line["step"] / steps, 100 * line["accuracy"]) for line in intervals], style=TRAINING),
        Curve(points=[(line["epoch"], 100 * line["test_accuracy"]) for line in epochs], style=TEST),
    ]
    size = {"width": width, "height": PLOT_HEIGHT, "right": run.epochs}
    legend = ("training", TRAINING), ("test", TEST)
    return [
        Text.assemble("loss: ", *_legend(legend)),
        *plot(loss, **size),
        Text.assemble("accuracy in %: ", *_legend(legend)),
        *plot(accuracy, **size, top=100.0),
        Text(f"{'0':>9}{f'epoch {run.epochs}':>{max(width - 9, 1)}}", style="dim"),
    ]


def line(run: Snapshot) -> str:
    """For a log."""
    left = "" if run.seconds_left is None else f", {duration(run.seconds_left)} left"
    sign = "" if run.age is None else f", last sign {ago(run.age)}"
    reason = f": {run.reason}" if run.reason and run.state != "finished" else ""
    return f"{run.id}: {', '.join(facts(run))}{left}; {run.state}{sign}{reason}"


def _legend(parts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"━ {name} ", style) for name, style in parts]
