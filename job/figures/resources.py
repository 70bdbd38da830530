"""What a system monitor would have shown: GPU, CPU, memory and I/O over time, the ends of epochs marked."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from job.core.resource_records import AttemptRow
from job.figures.style import FADED, PALETTE, TEXT, house_style, new_figure, saved

Rows = Sequence[AttemptRow]
Field = Literal[
    "process_cpu_cores",
    "container_cpu_cores",
    "host_cpu_cores",
    "container_cpu_limit_cores",
    "container_throttled_seconds_per_second",
    "process_memory_bytes",
    "container_memory_bytes",
    "host_memory_used_bytes",
    "container_memory_limit_bytes",
    "network_sent_bytes_per_second",
    "network_received_bytes_per_second",
    "disk_written_bytes_per_second",
    "disk_read_bytes_per_second",
    "spool_bytes",
]
GpuField = Literal["utilization_percent", "memory_used_bytes", "memory_total_bytes", "power_watts", "sm_clock_mhz"]
Reading = Callable[[AttemptRow], float | None]

LIMIT, MARK, ATTEMPT = "#444444", "#BBBBBB", "#888888"
MARKS = 40
"""epoch lines; of more epochs every second, fifth … one"""
SHOWN_GPUS = 4
"""with a curve of their own; of more, the mean is drawn"""
GAP = 30.0
"""seconds without a row that count as a pause between attempts, which is not drawn"""


class Series(NamedTuple):
    label: str
    read: Reading
    is_limit: bool = False


class Panel(NamedTuple):
    what: str
    series: Sequence[Series]
    top: float | None = None
    """of the axis"""
    hide_zero: bool = False
    """no panel where nothing ever happened"""


@house_style()
def draw_resources(rows: Rows, path: Path, *, title: str) -> Path | None:
    """A panel for each thing of which there are figures; None with fewer than two rows.  `rows`: of all attempts, oldest first."""
    if len(rows) < 2:
        return None
    x, starts = _working_time(rows)
    unit, name = (3600.0, "hours") if x[-1] > 2 * 3600 else (60.0, "minutes") if x[-1] > 300 else (1.0, "seconds")
    panels = [known for panel in (*_gpu_panels(rows), *PANELS) if (known := _known(panel, rows)).series]
    if not panels:
        return None
    figure = new_figure(9.6, 1.5 + 1.7 * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _draw(axes, panel, rows, x / unit)
        _mark(axes, rows, x / unit, starts)
    _label_epochs(grid[0], rows, x / unit)
    _titles(figure, grid[0], title)
    grid[-1].set_xlabel(f"{name} of work" + (", pauses between attempts left out; dashed: a new attempt" if len(starts) > 1 else ""))
    grid[-1].set_xlim(0, x[-1] / unit)
    saved(figure, path)
    return path


def _draw(axes: Axes, panel: Panel, rows: Rows, x: Any) -> None:
    colours = iter(PALETTE)
    for number, series in enumerate(panel.series):
        values = np.array([np.nan if (value := series.read(row)) is None else value for row in rows])
        # the first on top, the others wider: equal curves stay visible
        (line,) = axes.plot(x, values, label=series.label, linewidth=1.1 + 0.4 * number, zorder=3 - 0.1 * number)
        if series.is_limit:
            line.set(color=LIMIT, linestyle="--", linewidth=1.0, zorder=3.1)
        else:
            line.set_color(next(colours))
    axes.set_ylim(0, panel.top or 1.05 * axes.get_ylim()[1])
    axes.set_title(panel.what, fontsize=10.5, color=TEXT, pad=4)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=FADED, handlelength=1.4)


def _mark(axes: Axes, rows: Rows, x: Any, starts: Sequence[int]) -> None:
    for index, _ in _epoch_ends(rows):
        axes.axvline(x[index], color=MARK, linewidth=0.8, zorder=0)
    for index in starts[1:]:
        axes.axvline(x[index], color=ATTEMPT, linewidth=1.0, linestyle="--", zorder=0.5)


def _label_epochs(axes: Axes, rows: Rows, x: Any) -> None:
    """Numbers above the first panel, as many as do not touch."""
    last = -np.inf
    for index, epoch in _epoch_ends(rows):
        if x[index] - last > 0.045 * x[-1]:
            axes.annotate(
                str(epoch), (x[index], 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", fontsize=8.5
            ).set_color(FADED)
            last = x[index]


def _titles(figure: Figure, axes: Axes, title: str) -> None:
    """The first panel's own title makes room for the numbers."""
    figure.suptitle("What the machine did", x=0.012, ha="left", fontweight="bold")
    axes.set_title(f"{title}\ngrey lines and numbers: ends of epochs\n\n{axes.get_title(loc='left')}", fontsize=10.5, pad=18)


def _epoch_ends(rows: Rows) -> Iterator[tuple[int, int]]:
    """(row, epochs done) wherever an epoch ended, thinned."""
    ends = [(n, int(b["epoch"])) for n, (a, b) in enumerate(pairwise(rows), 1) if b.get("epoch", 0) > a.get("epoch", 0)]
    stride = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if len(ends) <= MARKS * s)
    return (end for end in ends if end[1] % stride == 0)


def _working_time(rows: Rows) -> tuple[Any, list[int]]:
    """(seconds since the first row without the pauses, the rows at which attempts begin)."""
    times = np.array([row["time"] for row in rows])
    steps = np.maximum(np.diff(times, prepend=times[0]), 0.0)
    usual = median(steps[1:])
    pauses = [n for n, (a, b) in enumerate(pairwise(rows), 1) if a.get("attempt") != b.get("attempt") or steps[n] > max(GAP, 5 * usual)]
    steps[pauses] = usual
    return np.cumsum(steps), [0, *(n for n in pauses if rows[n].get("attempt") != rows[n - 1].get("attempt"))]


def _known(panel: Panel, rows: Rows) -> Panel:
    """The panel with the series of which there are values; none if only limits are left."""
    nothing = (None, 0) if panel.hide_zero else (None,)
    series = [s for s in panel.series if any(s.read(row) not in nothing for row in rows)]
    return panel._replace(series=series if any(not s.is_limit for s in series) else [])


def _field(name: Field, scale: float = 1.0) -> Reading:
    return lambda row: None if (value := row.get(name)) is None else value / scale


def _gpu(index: int | None, name: GpuField, scale: float = 1.0) -> Reading:
    """Of one GPU; None: the mean over all."""

    def read(row: AttemptRow) -> float | None:
        values = [gpu[name] / scale for gpu in row.get("gpus", ()) if name in gpu and index in (None, gpu["index"])]
        return sum(values) / len(values) if values else None

    return read


def _gpu_panels(rows: Rows) -> Sequence[Panel]:
    indices = sorted({gpu["index"] for row in rows for gpu in row.get("gpus", ())})
    shown: Sequence[int | None] = indices if len(indices) <= SHOWN_GPUS else [None]

    def of(name: GpuField, scale: float = 1.0) -> list[Series]:
        return [Series(f"mean of {len(indices)} GPUs" if index is None else f"GPU {index}", _gpu(index, name, scale)) for index in shown]

    total = Series("there", _gpu(shown[0] if shown else None, "memory_total_bytes", 1e9), is_limit=True)
    return (
        Panel("GPU utilisation in %", of("utilization_percent"), top=105),
        Panel("GPU memory in GB", [*of("memory_used_bytes", 1e9), total]),
        Panel("GPU power in W", of("power_watts")),
        Panel("GPU clock in MHz", of("sm_clock_mhz")),
    )


PANELS = (
    Panel(
        "CPUs in use",
        (
            Series("this process", _field("process_cpu_cores")),
            Series("container", _field("container_cpu_cores")),
            Series("node", _field("host_cpu_cores")),
            Series("quota", _field("container_cpu_limit_cores"), is_limit=True),
        ),
    ),
    Panel(
        "CPU time refused by the quota, in s per s",
        (Series("container", _field("container_throttled_seconds_per_second")),),
        hide_zero=True,
    ),
    Panel(
        "memory in GB",
        (
            Series("this process", _field("process_memory_bytes", 1e9)),
            Series("container", _field("container_memory_bytes", 1e9)),
            Series("node", _field("host_memory_used_bytes", 1e9)),
            Series("limit", _field("container_memory_limit_bytes", 1e9), is_limit=True),
        ),
    ),
    Panel(
        "network and disk in MB/s",
        (
            Series("sent", _field("network_sent_bytes_per_second", 1e6)),
            Series("received", _field("network_received_bytes_per_second", 1e6)),
            Series("written", _field("disk_written_bytes_per_second", 1e6)),
            Series("read", _field("disk_read_bytes_per_second", 1e6)),
        ),
    ),
    Panel("waiting for upload, in MB", (Series("spool", _field("spool_bytes", 1e6)),)),
)
