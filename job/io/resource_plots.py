"""What a system monitor would have shown: GPU, CPU, memory and I/O over time, the ends of epochs marked."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from job.io.plots import FADED, house_style, new_figure, saved

Rows = Sequence[Mapping[str, Any]]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe & Ito, as in job.io.plots
GB = 1e9


@house_style()
def draw_resources(rows: Rows, path: Path, *, title: str) -> Path | None:
    """resources.png, a panel for each thing of which there are figures; None without rows."""
    if len(rows) < 2:
        return None
    panels = [panel for panel in PANELS if any(_values(rows, read) for read, _, _ in panel[1])]
    figure = new_figure(9.6, 1.2 + 1.9 * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    start = rows[0]["time"]
    minutes = rows[-1]["time"] - start > 300
    unit = 60 if minutes else 1
    for axes, (name, series) in zip(grid, panels, strict=True):
        _panel(axes, rows, name, series, start, unit)
    grid[0].set_title(f"What the machine did: {title}", fontweight="bold", pad=16)
    grid[-1].set_xlabel(f"{'minutes' if minutes else 'seconds'} since the first sample; grey lines: ends of epochs")
    saved(figure, path)
    return path


def _panel(axes: Axes, rows: Rows, name: str, series: Any, start: float, unit: int) -> None:
    for number, (read, label, form) in enumerate(series):
        points = _values(rows, read)
        if points:
            x, y = zip(*points, strict=True)
            axes.plot([(t - start) / unit for t in x], y, form, color=COLOURS[number % 4], linewidth=1.4, label=label)
    for before, after in pairwise(rows):
        if after.get("epoch", 0) > before.get("epoch", 0):
            axes.axvline((after["time"] - start) / unit, color="#BBBBBB", linewidth=0.8, zorder=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(name, fontsize=9.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=FADED)


def _values(rows: Rows, read: Callable[[Mapping[str, Any]], float | None]) -> list[tuple[float, float]]:
    found = ((row["time"], read(row)) for row in rows)
    return [(at, value) for at, value in found if value is not None]


def _field(name: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda row: row[name] / scale if row.get(name) is not None else None


def _gpu(name: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], float | None]:
    """The mean over the devices."""

    def read(row: Mapping[str, Any]) -> float | None:
        values = [gpu[name] / scale for gpu in row.get("gpus", ()) if name in gpu]
        return sum(values) / len(values) if values else None

    return read


PANELS: Sequence[tuple[str, Sequence[tuple[Callable[[Mapping[str, Any]], float | None], str, str]]]] = (
    ("GPU in %", ((_gpu("utilization_percent"), "busy", "-"), (_gpu("memory_utilization_percent"), "memory busy", "-"))),
    ("GPU memory in GB", ((_gpu("memory_used_bytes", GB), "used", "-"), (_gpu("memory_total_bytes", GB), "there", "--"))),
    ("GPU power in W", ((_gpu("power_watts"), "power", "-"),)),
    (
        "CPUs",
        (
            (_field("process_cpu_cores"), "process", "-"),
            (_field("container_cpu_cores"), "container", "-"),
            (_field("host_cpu_cores"), "host", "-"),
            (_field("container_cpu_limit_cores"), "limit", "--"),
        ),
    ),
    (
        "memory in GB",
        (
            (_field("process_memory_bytes", GB), "process", "-"),
            (_field("container_memory_bytes", GB), "container", "-"),
            (_field("host_memory_used_bytes", GB), "host", "-"),
            (_field("container_memory_limit_bytes", GB), "limit", "--"),
        ),
    ),
    (
        "I/O in MB/s",
        (
            (_field("network_sent_bytes_per_second", 1e6), "network out", "-"),
            (_field("network_received_bytes_per_second", 1e6), "network in", "-"),
            (_field("disk_written_bytes_per_second", 1e6), "disk written", "-"),
            (_field("disk_read_bytes_per_second", 1e6), "disk read", "-"),
        ),
    ),
    ("spool in MB", ((_field("spool_bytes", 1e6), "waiting", "-"),)),
)
