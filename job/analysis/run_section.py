"""What the page says of one run: tiles, confusion matrix, pictures, time, attempts and facts."""

import time
from collections.abc import Iterable

from job.analysis.evidence import Figures
from job.analysis.formatting import duration, percent
from job.analysis.pictures import CURVES, picture
from job.analysis.timeline import stored_steps, timeline
from job.core.metrics import confusion
from job.core.records import RecipeValue, Seconds, Summary
from job.runs.contributions import LIBRARIES, engine_label
from job.runs.results import Attempt, Results
from job.storage.files import without_secrets

Rows = list[tuple[str, RecipeValue]]
"""name, value"""
LARGEST_MATRIX = 20
"""classes above which the confusion matrix is shown as a figure"""


def describe(run: Results, figures: Figures, recipe: Rows) -> dict[str, object]:
    """For the template; `recipe`: the fields that the other runs of the page do not share."""
    summary, small = run.summary, run.logits.shape[1] <= LARGEST_MATRIX
    left_out = {*CURVES, *(("confusion",) if small else ())}
    return {
        "id": figures.id,
        "about": f"{figures.engine}, recipe {figures.recipe}, seed {figures.seed}, on {summary['device']}",
        "tiles": _tiles(summary, figures),
        "findings": summary.get("findings", []),
        "confusion": _confusion(run) if small else None,
        "plots": [picture(name, data) for name, data in run.plots.items() if name not in left_out],
        "time": _time(summary.get("time")),
        "attempts": [_attempt(run, attempt) for attempt in run.attempts],
        "timeline": _timeline(run),
        "facts": _facts(run),
        "recipe": recipe,
    }


def _facts(run: Results) -> Rows:
    """What was trained, on which data, where, with what, and where it lies."""
    summary, record, steps = run.summary, run.record, run.contributions
    data = record["data"]
    claims = [attempt.claim for attempt in run.attempts if attempt.claim]
    facts: Rows = [
        ("location", without_secrets(run.url) if "://" in run.url else run.url),
        ("model", summary["model"]),
        ("data", f"{data['name']}: {data['train_images']:,} training and {data['test_images']:,} test images"),
        ("data fingerprint", data["fingerprint"]),
        ("initial weights", f"SHA-256 {given}" if (given := record.get("init_from_sha256")) else "drawn from the seed"),
        ("seed", record["seed"]),
        ("engine", engine_label(steps)),
        ("device", _distinct(c.device for c in steps)),
        ("GPU uuid", _distinct(claim.get("gpu_uuid") or "" for claim in claims)),
        *((library, _distinct(found for c in steps for name, found in c.versions if name == library)) for library in LIBRARIES),
        ("threads", record.get("threads", "")),
        ("code", _distinct(c.code for c in steps)),
        ("commit", _distinct(claim.get("revision") or "" for claim in claims)),
        ("image", _distinct(claim.get("image", "") for claim in claims)),
        ("precision", summary["precision"]),
        ("parameters", f"{summary['parameters']:,}"),
    ]
    return [(name, value) for name, value in facts if value != ""]


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(value for value in dict.fromkeys(values) if value)


def _speeds(summary: Summary) -> list[tuple[str, float]]:
    """Of each engine and device that took steps of the run, named where there are several."""
    several = summary.get("speeds", [])
    if len(several) < 2:
        return [("", summary["images_per_second"])]
    return [(f", {one['engine']} on {one['device']}", one["images_per_second"]) for one in several]


def _tiles(summary: Summary, figures: Figures) -> list[tuple[str, str]]:
    tiles = [
        ("test accuracy", percent(figures.test_accuracy)),
        *((("top-5 accuracy", percent(summary["test_top5_accuracy"])),) if "test_top5_accuracy" in summary else ()),
        ("epochs", str(figures.epochs)),
        *((f"images/s, median{of}", f"{speed:,.0f}") for of, speed in _speeds(summary)),
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
