"""`python -m tools.growth docs/parity.png`: how the losses of two runs part, drawn over the steps.

PyTorch against TensorFlow in float32, beside PyTorch against itself in another memory layout: what rounding alone does.  About three
minutes on two cores.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from job.figures.style import INTERVALS, TEST, TRAINING, house_style
from tests.engines.traces import GROWN, GROWTH

WINDOW = 10
CURVES = (
    ("fp32: PyTorch channels-last, PyTorch channels-first", ("torch", "growth"), ("torch", "growth-channels-first"), INTERVALS),
    ("fp32: PyTorch, TensorFlow", ("torch", "growth"), ("tensorflow", "growth"), TRAINING),
    ("fp64: PyTorch, TensorFlow", ("torch", "growth-fp64"), ("tensorflow", "growth-fp64"), TEST),
)


def traced(folder: Path) -> None:
    for engine in ("torch", "tensorflow"):
        (folder / engine).mkdir()
        cases = [case for case in GROWTH if engine == "torch" or case != "growth-channels-first"]
        subprocess.run([sys.executable, "-m", "tests.engines.traces", engine, folder / engine, *cases], check=True)


def parted(folder: Path, one: tuple[str, str], other: tuple[str, str]) -> np.ndarray:
    """|loss - other loss| / loss of each step."""
    a, b = (load_file(folder / engine / f"{case}.safetensors")["losses"].astype(float) for engine, case in (one, other))
    return np.abs(a - b) / a


@house_style()
def draw(curves: dict[str, tuple[np.ndarray, str]], path: Path) -> None:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label, (values, colour) in curves.items():
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, (WINDOW - 1, 0)), WINDOW)
        axes.plot(np.where(windows.any(1), windows.max(1), np.nan), color=colour, label=label)
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
    axes.set_xlabel("step")
    axes.set_title(f"Relative difference of the loss, largest of the last {WINDOW} steps")
    axes.legend(loc="center right", frameon=False)
    figure.savefig(path)


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        traced(folder)
        curves = {label: (parted(folder, one, other), colour) for label, one, other, colour in CURVES}
    draw(curves, path)
    print(f"{GROWN.batch_size} images of {GROWN.image_size} pixels, width {GROWN.width}")
    for label, (values, _) in curves.items():
        beyond = [f"{limit:.0e} at step {int((values > limit).argmax())}" for limit in (1e-6, 1e-4, 1e-3) if (values > limit).any()]
        print(f"{label}: largest {values.max():.1e}; beyond {', '.join(beyond) or '1e-6 never'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
