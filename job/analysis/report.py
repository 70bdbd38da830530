"""One self-contained HTML page about one run or several: no script, no request, light and dark, for screens, phones and paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from job.analysis.comparison import Comparison, compare
from job.analysis.curves import draw
from job.analysis.evidence import Figures
from job.analysis.formatting import percent
from job.analysis.page import page
from job.analysis.pictures import CURVES, picture
from job.analysis.run_section import Rows, describe
from job.analysis.sides_section import describe_sides
from job.analysis.statistics import BINS
from job.core.records import RecipeValue
from job.runs.results import Results


def write_report(runs: Sequence[Results], path: Path, *, anyway: bool = False, margin: float | None = None) -> dict[str, bytes]:
    """Write the page; returns the figures it shows by file name, for those who want them as PNG."""
    found = compare(runs, anyway=anyway, margin=margin)
    named = {figures.id: run for figures, run in zip(found.figures, runs, strict=True)}
    sides = {label: [named[name] for name in side.runs] for label, side in found.sides.items()}
    with TemporaryDirectory() as folder:
        shared = {file.stem: file.read_bytes() for file in draw(sides, Path(folder))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_page(runs, found, shared), encoding="utf-8")
    own = {(f"run-{n}-" if len(runs) > 1 else "") + name: data for n, run in enumerate(runs, 1) for name, data in run.plots.items()}
    return {f"{name}.png": data for name, data in {**shared, **own}.items()}


def report_page(runs: Sequence[Results], found: Comparison, shared: Mapping[str, bytes]) -> str:
    """`shared`: figures that are not of one run alone."""
    single, figures = len(runs) == 1, {**(runs[0].plots if len(runs) == 1 else {}), **shared}
    common, own = _recipes([run.record["recipe"] for run in runs])
    return page(
        "report.html",
        title=runs[0].id if single else f"{len(runs)} runs compared",
        subtitle=_subtitle(runs),
        headline=_headline(runs[0], found.figures[0]) if single else found.verdict,
        single=single,
        found=found,
        **describe_sides(found, runs[0].labels),
        curves=[picture(name, figures[name]) for name in CURVES if name in figures],
        runs=[describe(run, f, recipe) for run, f, recipe in zip(runs, found.figures, own, strict=True)],
        common=common,
        bins=BINS,
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


def _recipes(recipes: Sequence[Mapping[str, RecipeValue]]) -> tuple[Rows, list[Rows]]:
    """What all recipes have in common, and what each has of its own."""
    first = recipes[0]
    common = {key for key in first if all(recipe.get(key) == first[key] for recipe in recipes)}
    return [(k, v) for k, v in first.items() if k in common], [[(k, v) for k, v in r.items() if k not in common] for r in recipes]
