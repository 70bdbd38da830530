"""A fleet as one self-contained page."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from job.analysis.page import page
from job.analysis.pictures import picture
from job.figures.fleet import Strip, fleet_strips
from job.fleet import text
from job.fleet.groups import Group
from job.fleet.judgement import STATES, Fleet
from job.fleet.outliers import Spread

DRAWN = 3
"""groups, the largest, whose figures are drawn"""
TILES = {"pass": "pass", "fail": "fail", "suspect": "are suspect", "missing": "did not report"}


def fleet_page(fleet: Fleet, where: str) -> str:
    """HTML."""
    places = {gpu.name: f"{gpu.node}, GPU {gpu.position}" for gpu in fleet.gpus}
    tiles = [("GPUs", f"{len(fleet.gpus):,}"), ("nodes", f"{len(fleet.nodes):,}")]
    tiles += [(TILES[state], f"{fleet.count(state):,}") for state in reversed(STATES)]
    return page(
        "fleet.html",
        title="Acceptance of a fleet",
        where=where,
        fleet=fleet,
        headline=text.headline(fleet),
        tiles=tiles,
        bad=[gpu for gpu in fleet.gpus if gpu.state != "pass"],
        who=text.who,
        retraces=[*text.retraces(fleet)],
        groups=[{"group": group, "picture": _picture(group, places) if group.number <= DRAWN else None} for group in fleet.groups],
        not_tested=text.not_tested(fleet),
        method=text.METHOD,
    )


def _picture(group: Group, places: Mapping[str, str]) -> dict[str, str] | None:
    strips = [_strip(spread, places) for spread in group.spreads if len(spread.values) > 1]
    if not strips:
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.png"
        fleet_strips(strips, path)
        return picture("fleet", path.read_bytes())


def _strip(spread: Spread, places: Mapping[str, str]) -> Strip:
    outliers, figure = spread.outliers, spread.figure
    return Strip(
        title=figure.name if figure.unit in figure.name else f"{figure.name}, {figure.unit}",
        values=np.array([value for name, value in spread.values.items() if name not in outliers]),
        outliers=sorted(((places[name], value) for name, value in outliers.items()), key=lambda item: -abs(item[1] - spread.median)),
        median=spread.median,
        low=spread.low,
        high=spread.high,
    )
