"""`make results RUN=NAME`: a full training on CIFAR-10, and what the documents show of it.

`alexnet train` runs it or goes on with it; then results/NAME.json is written, small enough to be committed.  docs/results.md and its curves
are drawn anew from all of these files, for which the runs themselves are not needed.  Without a name that is all that is done.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from job.analysis.comparison import compare
from job.analysis.formatting import duration, percent
from job.bench import machine
from job.figures.style import house_style, new_figure, saved, side_style
from job.runs.results import Results, read_results
from tools.faults import drawn
from tools.trained import exit_code, trained

ROOT = Path(__file__).parents[1]
FOLDER, DOCUMENT, CURVES = ROOT / "results", ROOT / "docs" / "results.md", ROOT / "docs" / "results.png"


RUNS = {
    "default-torch": ("torch", "default"),
    "default-tensorflow": ("tensorflow", "default"),
    "default-30-torch": ("torch", "default-30"),
    "report-torch": ("torch", "report-torch"),
    "report-keras": ("tensorflow", "report-keras"),
}
"""name → engine and recipe"""
PAIRS = {"default": ("default-torch", "default-tensorflow"), "report": ("report-torch", "report-keras")}
"""what is compared, as soon as both are there"""
MARGIN = 0.005
"""within which two frameworks count as equal, as a share"""

Found = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make results", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", choices=RUNS, metavar="RUN", help=", ".join(RUNS))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--output", default="runs/results", help="folder or s3://bucket/prefix of the runs")
    options = parser.parse_args()

    def run() -> None:
        if options.run:
            engine, recipe = RUNS[options.run]
            keep(options.run, trained(engine, recipe, options.run, data=options.data, output=options.output), options.output)
        draw()

    return exit_code(run)


def keep(name: str, run: Results, output: str) -> None:
    """Its figures, and the verdict on the pair that it completes."""
    write(FOLDER / f"{name}.json", facts(run))
    for both, pair in PAIRS.items():
        if name in pair and all((FOLDER / f"{one}.json").exists() for one in pair):
            write(FOLDER / f"compared-{both}.json", verdict([read_results(f"{output}/{one}") for one in pair]))


def facts(run: Results) -> Found:
    """What is kept: the records of the run but for the list of its files, and on which machine it ended."""
    return {
        "record": dict(run.record),
        "summary": {key: value for key, value in run.summary.items() if key != "final"},
        "epochs": [line for line in run.lines if line["kind"] == "epoch"],
        "machine": {key: value for key, value in machine.describe().items() if key != "load"},
    }


def verdict(pair: Sequence[Results]) -> Found:
    return {"verdict": compare(pair, margin=MARGIN).verdict, "anyway": compare(pair, anyway=True, margin=MARGIN).verdict}


def write(path: Path, found: Found) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def draw() -> None:
    """The document's tables and the curves, of the runs that are there; nothing without any."""
    found = {name: json.loads(path.read_text()) for name in RUNS if (path := FOLDER / f"{name}.json").exists()}
    if not found:
        return
    verdicts = [json.loads(path.read_text()) for name in PAIRS if (path := FOLDER / f"compared-{name}.json").exists()]
    sentences = [sentence for one in verdicts for sentence in dict.fromkeys((one["verdict"], one["anyway"]))]
    tables = {"runs": table(found), "epochs": by_epoch(found), "verdicts": "\n>\n".join(f"> {sentence}" for sentence in sentences)}
    DOCUMENT.write_text(drawn(DOCUMENT.read_text(), tables))
    curves(found)


def table(found: Mapping[str, Found]) -> str:
    lines = [
        "| run | epochs | test | 95 % interval | training | images/s | time of training | peak host memory |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    for name, run in found.items():
        one = run["summary"]
        low, high = (100 * bound for bound in one["test_accuracy_interval_95"])
        cells = [
            f"`{name}`",
            str(one["epochs"]),
            f"**{percent(one['test_accuracy'])}**",
            f"{low:.1f} to {high:.1f}",
            percent(one["train_accuracy"]),
        ]
        cells += [f"{one['images_per_second']:.0f}", duration(sum(one["time"].values())), f"{one['peak_host_memory_bytes'] / 1e9:.2f} GB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"![Accuracy on the test set after each epoch]({CURVES.name})"])


def by_epoch(found: Mapping[str, Found]) -> str:
    """Test accuracies after each epoch."""
    longest = max((len(run["epochs"]) for run in found.values()), default=0)
    lines = [f"| epoch | {' | '.join(f'`{name}`' for name in found)} |", f"|--:{'|--:' * len(found)}|"]
    for number in range(longest):
        cells = [f"{100 * run['epochs'][number]['test_accuracy']:.1f}" if number < len(run["epochs"]) else "" for run in found.values()]
        lines.append(f"| {number + 1} | {' | '.join(cells)} |")
    return "\n".join(lines)


@house_style()
def curves(found: Mapping[str, Found]) -> None:
    """Test accuracy after each epoch, and training accuracy in a thinner line."""
    figure = new_figure(9, 4.5)
    axes = figure.add_subplot()
    for number, (name, run) in enumerate(found.items()):
        style, epochs = side_style(number), [line["epoch"] for line in run["epochs"]]
        end = f"{name}: {percent(run['summary']['test_accuracy'])}"
        test, training = ([100 * line[f"{part}_accuracy"] for line in run["epochs"]] for part in ("test", "train"))
        axes.plot(epochs, test, color=style.colour, marker=style.marker, markersize=4, label=end)
        axes.plot(epochs, training, color=style.colour, linewidth=0.8, linestyle="dotted")
    axes.set(xlabel="epoch", ylabel="accuracy in %", title="On the test set after each epoch (dotted: while training)")
    axes.legend(loc="lower right")
    saved(figure, CURVES)


if __name__ == "__main__":
    sys.exit(main())
