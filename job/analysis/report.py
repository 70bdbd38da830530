"""One self-contained HTML page about one run or several: no script, no request, light and dark, for screens and paper."""

import base64
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from job.analysis.comparison import Comparison, compare
from job.analysis.curves import draw_curves
from job.analysis.verdict import p_text, percent, points
from job.io.results import Results

ALT = {
    "accuracy": "accuracy after each epoch",
    "loss": "loss during training",
    "confusion": "confusion matrix",
    "mistakes": "the most confident mistakes",
    "curves": "test and training accuracy of all runs",
    "losses": "loss of all runs",
    "resources": "what the machine did over time",
}
FACTS = ("engine", "device", "torch", "tensorflow", "keras", "cuda", "cudnn", "numpy", "precision", "parameters", "model")


def write_report(runs: Sequence[Results], path: Path, *, anyway: bool = False) -> dict[str, bytes]:
    """Write the page; returns the figures it shows by file name, for those who want them as PNG."""
    found = compare(runs, anyway=anyway)
    figures = {name: data for run in runs for name, data in run.plots.items()} if len(runs) == 1 else _overlaid(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(runs, found, figures), encoding="utf-8")
    return {f"{name}.png": data for name, data in figures.items()}


def page(runs: Sequence[Results], found: Comparison, figures: dict[str, bytes]) -> str:
    environment = Environment(
        loader=PackageLoader("job.analysis"), autoescape=True, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"percent": percent, "points": points, "p": p_text}
    single = len(runs) == 1
    return environment.get_template("report.html").render(
        title=runs[0].id if single else f"{len(runs)} runs compared",
        subtitle=_subtitle(runs),
        headline=_headline(runs[0], found) if single else found.verdict,
        comparison=found,
        curves=[_image(name, figures[name]) for name in (("accuracy", "loss") if single else ("curves", "losses")) if name in figures],
        runs=[_described(run) for run in runs],
        version=version("alexnet-job"),
    )


def _overlaid(runs: Sequence[Results]) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        return {path.stem: path.read_bytes() for path in draw_curves(runs, Path(folder))}


def _subtitle(runs: Sequence[Results]) -> str:
    data = runs[0].record["data"]
    return f"AlexNet on {data['name']}: {data['train_images']:,} training images, {data['test_images']:,} test images"


def _headline(run: Results, found: Comparison) -> str:
    figures = found.figures[0]
    return (
        f"{percent(figures.test_accuracy)} of {figures.test_images:,} test images are right (95 % interval {percent(figures.low)} to "
        f"{percent(figures.high)}), after {figures.epochs} epochs in {figures.engine} on {run.summary['device']}."
    )


def _described(run: Results) -> dict[str, Any]:
    summary = run.summary
    own = [name for name in run.plots if name not in ("accuracy", "loss")]
    return {
        "id": run.id,
        "tiles": _tiles(summary),
        "findings": summary.get("findings", []),
        "plots": [_image(name, run.plots[name]) for name in own],
        "time": _time(summary.get("time")),
        "attempts": [_attempt(run, attempt) for attempt in run.attempts],
        "environment": [(name, summary[name]) for name in FACTS if summary.get(name) is not None],
        "recipe": list(run.record["recipe"].items()),
    }


def _tiles(summary: Any) -> list[dict[str, str]]:
    tiles = [
        ("test accuracy", percent(summary["test_accuracy"])),
        ("images/s (median)", f"{summary['images_per_second']:,.0f}"),
        ("epochs", str(summary["epochs"])),
        ("peak host memory", f"{summary['peak_host_memory_bytes'] / 1e9:.2f} GB"),
    ]
    if "goodput" in summary:
        tiles.append(("goodput", percent(summary["goodput"])))
    return [{"name": name, "value": value} for name, value in tiles]


def _time(spent: Any) -> list[dict[str, Any]]:
    total = sum(spent.values()) if spent else 0
    return [{"name": name, "seconds": f"{s:,.1f} s", "share": s / total} for name, s in spent.items()] if total else []


def _attempt(run: Results, attempt: Any) -> dict[str, str]:
    end, started = attempt.end, attempt.claim.get("started")
    outcome = (
        f"{end.get('reason', '')} (exit {end.get('exit_code', '?')})" if end else "no end.json: killed, or the one that wrote this page"
    )
    steps = [str(int(name.split("-")[1])) for name in run.checkpoints if name.endswith(attempt.name)]
    return {
        "name": attempt.name,
        "host": str(attempt.claim.get("host", "—")),
        "device": str(attempt.claim.get("device", "—")),
        "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(started)) if started else "—",
        "ended": outcome,
        "checkpoints": ", ".join(f"step {step}" for step in sorted(steps, key=int)) or "—",
    }


def _image(name: str, data: bytes) -> dict[str, str]:
    kind = "photo" if name == "mistakes" else "figure"
    return {"alt": ALT.get(name, name.replace("-", " ")), "kind": kind, "data": f"data:image/png;base64,{base64.b64encode(data).decode()}"}
