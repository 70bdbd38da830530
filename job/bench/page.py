"""The figures of `alexnet bench` as a page."""

from collections.abc import Callable, Iterator

from job.analysis.efficiency import flop_text
from job.analysis.formatting import columns, percent
from job.bench.figures import EngineFigures, Report
from job.bench.machine import Machine
from job.core.resource_records import Spread

KERNEL_WIDTH = 80


def page(report: Report) -> str:
    """Engines side by side, each figure as median (least … greatest) of the turns."""
    recipe, engines = report["recipe"], report["engines"]
    turns = f"{report['turns']} turns of {report['steps']} steps"
    rows = [["", *(f"{engine['engine']}, {engine['precision']}" for engine in engines)]]
    rows += [[name, *(tell(engine) for engine in engines)] for name, tell in ROWS.items()]
    lines = [
        machine_text(report["machine"]),
        f"recipe {recipe['name']}: {recipe['image_size']} px, batch {recipe['batch_size']}, width {recipe['width']:g}",
        f"median (least … greatest) of {turns}; others used {percent(report['others'])} of the CPUs meanwhile",
        "",
        columns(rows),
    ]
    for engine in engines:
        lines += kernel_lines(engine)
    if report["objection"]:
        lines += ["", report["objection"]]
    return "\n".join(lines)


def machine_text(machine: Machine) -> str:
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    flags = " ".join(machine["cpu_flags"]) or "no flags known here"
    memory = f"{machine['memory_bytes'] / 1e9:.0f} GB"
    return f"{gpus}; {machine['cpus']} CPUs of {machine['cpu']} ({flags}), {memory}; load {machine['load']:.1f} when it began"


def text(found: Spread, unit: Callable[[float], str]) -> str:
    return f"{unit(found['median'])} ({unit(found['least'])} … {unit(found['greatest'])})"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"


def kernel_lines(engine: EngineFigures) -> Iterator[str]:
    if engine["kernels"]:
        idle = "" if engine["gpu_idle"] is None else f"; nothing ran for {percent(engine['gpu_idle'])} of the time"
        yield f"\n{engine['engine']}: where the device's time goes{idle}"
        for name, share in engine["kernels"]:
            yield f"{percent(share):>8}  {name[:KERNEL_WIDTH]}"


def _memory(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e9:.2f} GB"


def _first_step(engine: EngineFigures) -> str:
    stages = engine["first_step"]
    return f"{sum(stages.values()):.1f} s: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())


ROWS: dict[str, Callable[[EngineFigures], str]] = {
    "on": lambda e: f"{e['environment']['device']}, {e['engine']} {e['environment'].get(e['engine'])}",
    "step": lambda e: text(e["step_seconds"], milliseconds),
    "step, its loss read": lambda e: text(e["wall_seconds"], milliseconds),
    "CPU time of a step": lambda e: text(e["cpu_seconds"], milliseconds),
    "images/s": lambda e: text(e["images_per_second"], lambda value: f"{value:.1f}"),
    "FLOP/s": lambda e: text(e["flop_per_second"], flop_text),
    "FLOP/s of matrix products": lambda e: text(e["product_flop_per_second"], flop_text),
    "utilisation, their ratio": lambda e: "–" if e["utilization"] is None else text(e["utilization"], lambda value: f"{value:.2f}"),
    "peak memory of the host": lambda e: _memory(e["peak_host_memory_bytes"]),
    "peak memory of the GPU": lambda e: _memory(e["peak_gpu_memory_bytes"]),
    "command to first step": _first_step,
}
