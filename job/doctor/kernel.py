"""`python -m job.doctor.kernel ENGINE DEVICE`: does this framework compute correctly here?

It runs in a process of its own: no process can import both frameworks, and a driver that crashes or hangs must not end the page.

The kernels are those of training, on a small network: a convolution and a dense layer are recomputed with NumPy in float64, one optimiser
step is taken, and where the device computes in bf16 its logits are compared with those in float32.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from job.core.architecture import Layer
from job.core.exits import JobError
from job.core.identity_records import Environment
from job.core.initial import initial_weights
from job.core.recipe import Recipe
from job.core.sampling import plan
from job.doctor.page import Line, failed

TIMEOUT = 45.0
"""seconds for importing a framework and running its kernels; an import alone can take many seconds on a cold disk"""
LOSS = "loss of a step"
EXPECTED = {"convolution": "NumPy", "matmul": "NumPy", LOSS: "a guess"}
"""what is measured → what it is compared with; another precision with fp32"""
SMALL = Recipe(name="kernel", image_size=64, width=0.25, batch_size=8, dropout=0.0, precision="fp32", crop=False, flip=False)
TOLERANCE = 1e-4
"""largest accepted difference, relative to the largest value, of float32 sums over some thousand products"""
VERSIONS: tuple[Literal["torch", "tensorflow", "keras", "cuda", "cudnn"], ...] = ("torch", "tensorflow", "keras", "cuda", "cudnn")
BF16_TOLERANCE = 0.1
"""the same for bf16, which has 8 significant bits, and eight layers round in turn"""

Arrays = dict[str, NDArray[Any]]


class Report(TypedDict):
    """What a process of its own prints: an error, or what it measured."""

    engine: str
    error: NotRequired[str]
    late: NotRequired[bool]
    """it did not end in time"""
    environment: NotRequired[Environment]
    differences: NotRequired[dict[str, tuple[float, float]]]
    """from NumPy: found, allowed"""
    memory_bytes: NotRequired[int]
    """most that the process had in use"""


def measure_all(engines: tuple[str, ...], device: str) -> list[Report]:
    """One report for each engine, from processes that run in parallel."""
    command = [sys.executable, "-m", "job.doctor.kernel"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [(engine, subprocess.Popen([*command, engine, device], **pipes)) for engine in engines]
    return [_report(engine, process) for engine, process in processes]


def lines(reports: list[Report], gpu_expected: bool) -> Iterator[Line]:
    if not reports:
        yield Line(
            check="framework",
            level="fail",
            reason="neither torch nor tensorflow is installed",
            remedy="Install one with `pip install 'alexnet-job[torch]'`, or use the image alexnet-torch or alexnet-tf.",
        )
    for report in reports:
        yield _line(report, gpu_expected)


def _line(report: Report, gpu_expected: bool) -> Line:
    engine = report["engine"]
    check = f"{engine} kernels"
    if "error" in report:
        line = failed(check, Exception(report["error"]))
        # on a GPU the driver may hang; a CPU that is merely slow is no fault
        return replace(line, level="warn") if report.get("late") and not gpu_expected else line
    environment, differences = report["environment"], report["differences"]
    versions = ", ".join(f"{name} {environment[name]}" for name in VERSIONS if environment.get(name))
    figures = ", ".join(f"{name} within {found:.1e} of {EXPECTED.get(name, 'fp32')}" for name, (found, _) in differences.items())
    where = f"{versions} on {environment['device']}"
    if wrong := [name for name, (found, allowed) in differences.items() if not found <= allowed]:
        return Line(
            check=check,
            level="fail",
            reason=f"{where}: wrong numbers from {', '.join(wrong)} ({figures})",
            remedy="Use another node, or a driver and a framework that go together.",
        )
    if gpu_expected and environment["device"] == "cpu":
        return Line(
            check=check,
            level="fail",
            reason=f"{where}: the driver shows a GPU, but {engine} does not see it",
            remedy=f"Expected a build of {engine} with CUDA and a driver new enough for it; use the project's image, or another node.",
        )
    return Line(check=check, level="pass", reason=f"{where}: right numbers ({figures})")


def _report(engine: str, process: "subprocess.Popen[str]") -> Report:
    try:
        output, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        reason = f"{engine}: not finished after {TIMEOUT:.0f} s. Look at the load of the node, its disk and its GPU."
        return {"engine": engine, "error": reason, "late": True}
    if process.returncode == 0:
        report: Report = json.loads(output.splitlines()[-1])
        return report
    last = (errors.strip().splitlines() or ["no message"])[-1][:300]
    return {"engine": engine, "error": f"{engine}: ended with code {process.returncode} ({last}). Use another node, or install it anew."}


def measure(engine_name: str, device: str) -> Report:
    """In the process of its own.  Raises JobError."""
    from job.engines import Network, open_engine

    engine = open_engine(engine_name, device=device, threads=1)
    architecture = SMALL.architecture()
    weights = dict(initial_weights(SMALL, architecture, 0))
    images, labels = random_images(SMALL.batch_size)
    indices = np.arange(SMALL.batch_size)

    def loaded(recipe: Recipe) -> Network:
        network = engine.network(recipe, architecture)
        network.place("train", images, labels)
        network.place("test", images, labels)
        network.load(weights.items(), ())
        return network

    network = loaded(SMALL)
    step_plan = plan(SMALL, architecture, 0, indices, epoch=0, step=0)
    differences = compare(dict(network.observe(step_plan)), weights)
    logits = network.logits("test", indices)
    if (precision := engine.resolve("auto")) != "fp32":
        network = loaded(SMALL.with_values({"precision": precision}))
        differences[precision] = (difference(network.logits("test", indices), logits), BF16_TOLERANCE)
    network.step(step_plan, rate=0.001, number=1)
    losses, _ = network.read()
    differences[LOSS] = (abs(float(losses[0]) - np.log(10)), 1.0)  # the last layer begins small: every class is as likely
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"engine": engine_name, "environment": engine.environment(), "differences": differences, "memory_bytes": peak}


def compare(observed: Arrays, weights: Arrays) -> dict[str, tuple[float, float]]:
    """Name → (found, allowed) difference of the first convolution and the first dense layer, recomputed from the engine's inputs."""
    layers = SMALL.architecture().layers
    conv = next(layer for layer in layers if layer.kind == "conv")
    dense = next(layer for layer in layers if layer.kind == "dense")
    before = layers[layers.index(dense) - 1].name
    sums = observed[f"activations/{before}"].astype(np.float64) @ weights[f"{dense.name}.weight"].astype(np.float64).T
    expected = {
        "convolution": (conv, convolution(observed["activations/resize"], weights[f"{conv.name}.weight"], conv)),
        "matmul": (dense, sums),
    }
    found = {}
    for name, (layer, values) in expected.items():
        bias = weights[f"{layer.name}.bias"].reshape(-1, *[1] * (values.ndim - 2))
        found[name] = (difference(observed[f"activations/{layer.name}"], values + bias), TOLERANCE)
    return found


def convolution(images: NDArray[Any], weight: NDArray[Any], layer: Layer) -> NDArray[np.float64]:
    """images (B, C, H, W), weight (O, C, k, k) → (B, O, H', W'), in float64, without the bias."""
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), layer.padding, layer.padding))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (layer.kernel, layer.kernel), axis=(2, 3))
    strided = windows[:, :, :: layer.stride, :: layer.stride]  # (B, C, H', W', k, k)
    sums: NDArray[np.float64] = np.einsum("bchwij,ocij->bohw", strided, weight.astype(np.float64), optimize=True)
    return sums


def difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, relative to the largest expected value; infinite if `found` has values that are not finite."""
    largest = float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())
    return largest if np.isfinite(largest) else float("inf")


def random_images(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(images (count, 32, 32, 3), labels (count,)), the same at each call."""
    generator = np.random.Generator(np.random.PCG64(0))
    return generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8)


if __name__ == "__main__":
    try:
        answer = measure(*sys.argv[1:3])
    except JobError as error:
        answer = {"engine": sys.argv[1], "error": str(error)}
    print(json.dumps(answer))
