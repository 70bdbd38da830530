"""One self-contained HTML page about one run or several: no script, no request, light and dark, for screens, phones and paper."""

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from job.analysis.comparability import LIBRARIES, Library
from job.analysis.comparison import Comparison, Figures, compare
from job.analysis.curves import draw
from job.analysis.formatting import duration, p_text, percent, points
from job.analysis.statistics import BINS, RESAMPLES
from job.analysis.timeline import stored_steps, timeline
from job.core.metrics import confusion
from job.core.records import RecipeValue, Seconds, Summary
from job.runs.results import Attempt, Results

ALT = {
    "accuracy": "accuracy after each epoch, in training and on the test set",
    "loss": "loss during training and on the test set",
    "confusion": "confusion matrix",
    "mistakes": "the most confident mistakes, each with its image, its true and its predicted class",
    "curves": "test and training accuracy of each side, and the difference between the sides, by epoch",
    "losses": "test and training loss of each side by epoch",
    "throughput": "images per second during training",
    "resources": "use of processors, memory, disk and network over time",
}
CURVES = ("accuracy", "loss", "curves", "losses", "throughput")
PHOTOS = ("mistakes",)
Rows = list[tuple[str, RecipeValue]]
"""field of a recipe, its value"""
LARGEST_MATRIX = 20
"""classes above which the confusion matrix is shown as a figure"""
Fact = Literal[Library, "engine", "device", "precision", "parameters", "model"]
FACTS: tuple[Fact, ...] = ("engine", "device", *LIBRARIES, "precision", "parameters", "model")


def write_report(runs: Sequence[Results], path: Path, *, anyway: bool = False) -> dict[str, bytes]:
    """Write the page; returns the figures it shows by file name, for those who want them as PNG."""
    found = compare(runs, anyway=anyway)
    named = {figures.id: run for figures, run in zip(found.figures, runs, strict=True)}
    sides = {label: [named[name] for name in members] for label, members in found.sides.items()}
    with TemporaryDirectory() as folder:
        shared = {file.stem: file.read_bytes() for file in draw(sides, Path(folder))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(runs, found, shared), encoding="utf-8")
    own = {(f"run-{n}-" if len(runs) > 1 else "") + name: data for n, run in enumerate(runs, 1) for name, data in run.plots.items()}
    return {f"{name}.png": data for name, data in {**shared, **own}.items()}


def page(runs: Sequence[Results], found: Comparison, shared: Mapping[str, bytes]) -> str:
    """`shared`: figures that are not of one run alone."""
    environment = Environment(
        loader=PackageLoader("job.analysis"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"percent": percent, "points": points, "p": p_text}
    single, figures = len(runs) == 1, {**(runs[0].plots if len(runs) == 1 else {}), **shared}
    common, own = _recipes([run.record["recipe"] for run in runs])
    return environment.get_template("report.html").render(
        title=runs[0].id if single else f"{len(runs)} runs compared",
        subtitle=_subtitle(runs),
        headline=_headline(runs[0], found.figures[0]) if single else found.verdict,
        single=single,
        found=found,
        scale=_scale([(f.low, f.high) for f in found.figures]),
        pair_scale=_scale([*((p.low, p.high) for p in found.pairs.values()), *((s.low, s.high) for s in found.seeds.values())], around=0.0),
        curves=[_image(name, figures[name]) for name in CURVES if name in figures],
        runs=[_described(run, f, recipe) for run, f, recipe in zip(runs, found.figures, own, strict=True)],
        common=common,
        bins=BINS,
        resamples=RESAMPLES,
        version=version("alexnet-job"),
    )


def _subtitle(runs: Sequence[Results]) -> str:
    data = runs[0].record["data"]
    if any(run.record["data"]["fingerprint"] != data["fingerprint"] for run in runs):
        return "AlexNet on different data"
    return f"AlexNet on {data['name']}: {data['train_images']:,} training images, {data['test_images']:,} test images"


def _headline(run: Results, figures: Figures) -> str:
    return (
        f"{percent(figures.test_accuracy)} of {figures.test_images:,} test images are right (95 % interval {percent(figures.low)} to "
        f"{percent(figures.high)}), after {figures.epochs} epochs in {figures.engine} on {run.summary['device']}."
    )


def _scale(intervals: Iterable[tuple[float, float]], around: float | None = None) -> dict[str, float]:
    """A common axis for all intervals, a little wider than they are, and with `around` in its middle."""
    bounds = [bound for interval in intervals for bound in interval] or [0.0, 1.0]
    low, high = min(bounds), max(bounds)
    if around is not None:
        reach = max(abs(low - around), abs(high - around), 0.001)
        low, high = around - reach, around + reach
    margin = 0.06 * (high - low) or 0.01
    return {"low": low - margin, "width": high - low + 2 * margin}


def _recipes(recipes: Sequence[Mapping[str, RecipeValue]]) -> tuple[Rows, list[Rows]]:
    """What all recipes have in common, and what each has of its own."""
    first = recipes[0]
    common = {key for key in first if all(recipe.get(key) == first[key] for recipe in recipes)}
    return [(k, v) for k, v in first.items() if k in common], [[(k, v) for k, v in r.items() if k not in common] for r in recipes]


def _described(run: Results, figures: Figures, recipe: Rows) -> dict[str, object]:
    summary, small = run.summary, run.logits.shape[1] <= LARGEST_MATRIX
    left_out = {*CURVES, *(("confusion",) if small else ())}
    return {
        "id": figures.id,
        "about": f"{figures.engine}, recipe {figures.recipe}, seed {figures.seed}, on {summary['device']}",
        "tiles": _tiles(summary, figures),
        "findings": summary.get("findings", []),
        "confusion": _confusion(run) if small else None,
        "plots": [_image(name, data) for name, data in run.plots.items() if name not in left_out],
        "time": _time(summary.get("time")),
        "attempts": [_attempt(run, attempt) for attempt in run.attempts],
        "timeline": _timeline(run),
        "environment": [(name, summary[name]) for name in FACTS if summary.get(name) is not None],
        "recipe": recipe,
    }


def _tiles(summary: Summary, figures: Figures) -> list[tuple[str, str]]:
    tiles = [
        ("test accuracy", percent(figures.test_accuracy)),
        ("epochs", str(figures.epochs)),
        ("images/s, median", f"{figures.images_per_second:,.0f}"),
        ("peak host memory", f"{summary['peak_host_memory_bytes'] / 1e9:.2f} GB"),
    ]
    if total := sum((summary.get("time") or {}).values()):
        tiles.append(("time", duration(total)))
    if (goodput := summary.get("goodput")) is not None:
        tiles.append(("goodput: share spent on steps", f"{100 * goodput:.0f} %"))
    if summary.get("images_per_second_p5") is not None:
        tiles.append(("images/s, 5th percentile", f"{summary['images_per_second_p5']:,.0f}"))
    if flop := summary.get("flop_per_second"):
        tiles.append(("achieved", f"{flop / 1e9:,.1f} GFLOP/s"))
    if device := (summary.get("resources") or {}).get("peak_gpu_memory_bytes"):
        tiles.append(("peak GPU memory", f"{device / 1e9:.2f} GB"))
    if summary.get("energy_joules_per_epoch"):
        tiles.append(("energy for an epoch", f"{summary['energy_joules_per_epoch'] / 1e3:.1f} kJ"))
    if summary.get("images_per_joule"):
        tiles.append(("images per joule", f"{summary['images_per_joule']:.1f}"))
    return tiles


def _confusion(run: Results) -> dict[str, object]:
    """Counts with their shares of the row, as the table's cells; the square root tells 1 % from 5 %."""
    classes = run.record["data"].get("classes") or [str(c) for c in range(run.logits.shape[1])]
    counts = confusion(run.labels, run.logits.argmax(1), len(classes))
    rows = []
    for name, row in zip(classes, counts.tolist(), strict=True):
        total = sum(row) or 1
        cells = [{"count": n, "share": n / total, "shade": round(100 * (n / total) ** 0.5)} for n in row]
        rows.append({"name": name, "cells": cells})
    return {"classes": classes, "rows": rows}


def _time(spent: Seconds | None) -> list[dict[str, object]]:
    total = sum(spent.values()) if spent else 0
    return [{"name": name, "seconds": f"{s:,.1f} s", "share": s / total} for name, s in spent.items()] if spent and total else []


def _attempt(run: Results, attempt: Attempt) -> dict[str, str]:
    claim, end = attempt.claim, attempt.end
    started = claim.get("started") if claim else None
    outcome = f"{end.get('reason', '')} (exit {end.get('exit_code', '?')})" if end else "no end: it was killed"
    steps = stored_steps(run, attempt.name)
    return {
        "name": attempt.name,
        "engine": claim.get("engine", "—") if claim else "—",
        "steps": next((c.steps for c in run.contributions if c.attempt == attempt.name), "none that count"),
        "host": claim.get("host", "—") if claim else "—",
        "device": claim.get("device", "—") if claim else "—",
        "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(started)) if started else "—",
        "ended": outcome,
        "checkpoints": ", ".join(f"step {step:,}" for step in steps) or "—",
    }


def _timeline(run: Results) -> dict[str, object] | None:
    """Bars and marks in % of the whole time; None where no attempt has a duration."""
    spans = timeline(run)
    begin, end = min((s.begin for s in spans), default=0.0), max((s.end for s in spans), default=0.0)
    if end <= begin:
        return None

    def at(moment: float) -> float:
        return 100 * (moment - begin) / (end - begin)

    rows = [
        {
            "name": span.attempt,
            "left": at(span.begin),
            "width": max(at(span.end) - at(span.begin), 0.4),
            "killed": span.last_sign,
            "took": duration(span.end - span.begin),
            "marks": [{"step": step, "left": at(moment)} for step, moment in span.checkpoints.items()],
        }
        for span in spans
    ]
    return {"rows": rows, "length": duration(end - begin)}


def _image(name: str, data: bytes) -> dict[str, str]:
    kind = "photo" if name in PHOTOS else "figure"
    alt = ALT.get(name, name.replace("-", " "))
    return {"alt": alt, "kind": kind, "data": f"data:image/png;base64,{base64.b64encode(data).decode()}"}
