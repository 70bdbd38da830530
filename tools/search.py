"""`python -m tools.search`: short trainings that choose the recipe, each measured on images held out of the training set.

results/trials.toml says what is tried; a trial that is done is not repeated.  Figures go to results/trials.json, and the table of
docs/recipe.md is drawn anew from both.  The test set has no say: what it gives is not looked at here.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job.runs.results import Results
from tools.faults import drawn
from tools.trained import exit_code, trained

ROOT = Path(__file__).parents[1]
TRIALS, FIGURES, DOCUMENT = ROOT / "results" / "trials.toml", ROOT / "results" / "trials.json", ROOT / "docs" / "recipe.md"

Found = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.search", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--output", default="runs/search", help="folder or s3://bucket/prefix of the runs")
    parser.add_argument("--draw", action="store_true", help="train nothing: draw the table of what is there")
    options = parser.parse_args()
    groups = tomllib.loads(TRIALS.read_text())
    found: dict[str, Found] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}

    def run() -> None:
        for name, keys in trials(groups).items():
            if name not in found and not options.draw:
                words = ("--set", f"name={name}", *(word for key, value in keys.items() for word in ("--set", f"{key}={value}")))
                found[name] = figures(trained("torch", "default", name, *words, data=options.data, output=options.output))
                FIGURES.write_text(json.dumps(found, indent=1) + "\n")
        tables = {group: table(content, found) for group, content in groups.items()}
        DOCUMENT.write_text(drawn(DOCUMENT.read_text(), tables))

    return exit_code(run)


def trials(groups: Mapping[str, Found]) -> dict[str, Found]:
    """Name → keys of the recipe, in order: those that the group has in common, then its own."""
    return {
        name: {**group["common"], **{key: value for key, value in trial.items() if key != "verdict"}}
        for group in groups.values()
        for name, trial in group.items()
        if name != "common"
    }


def figures(run: Results) -> Found:
    """What a trial is judged by: the last epoch on the images that were held out."""
    epochs = [line for line in run.lines if line["kind"] == "epoch"]
    last = epochs[-1]
    return {
        "accuracies": [round(line["validation_accuracy"], 4) for line in epochs],
        "loss": round(last["validation_loss"], 4),
        "training": round(last["train_accuracy"], 4),
        "recipe": run.record["recipe"],
    }


def table(group: Mapping[str, Found], found: Mapping[str, Found]) -> str:
    """Of those trials of a group that are done."""
    lines = ["| trial | what it changes | held-out images | their loss | training | |", "|---|---|--:|--:|--:|---|"]
    for name, trial in group.items():
        if name != "common" and name in found:
            one = found[name]
            changes = ", ".join(f"`{key} = {json.dumps(value)}`" for key, value in trial.items() if key != "verdict") or "–"
            figures = f"{100 * one['accuracies'][-1]:.2f} % | {one['loss']:.3f} | {100 * one['training']:.1f} %"
            lines.append(f"| {name} | {changes} | {figures} | {trial.get('verdict', '')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
