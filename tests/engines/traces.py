"""`python -m tests.engines.traces ENGINE FOLDER CASE…`: traces by one engine, each in FOLDER/CASE.safetensors.

A case is a recipe, traced soundly, or a fault: something that two programs of "the same network" have been seen to do differently, planted
by exchanging a function of the engine for as long as the trace takes.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.core.architecture import alexnet
from job.core.recipe import Recipe
from job.engines import Network, open_engine
from job.parity.record import trace
from job.parity.tracefile import TraceWriter

Plant = Callable[[pytest.MonkeyPatch, Any, type[Network]], None]
"""plant(monkeypatch, the engine's module, its network's class)"""

SMALL = Recipe(batch_size=8, image_size=64, width=1 / 16, precision="fp64", initial_weights="torch")
ADAM = SMALL.with_values({"optimizer": "adam", "learning_rate": 1e-3, "normalization": "half", "schedule": "constant"})
KERAS = SMALL.with_values(
    {
        "optimizer": "adam-keras",
        "learning_rate": 1e-3,
        "epsilon": 1e-7,
        "conv1_padding": "same",
        "dropout_position": "after",
        "normalization": "per-image",
        "clip_norm": 0,
        "weight_decay": 0,
    }
)
PLAIN = SMALL.with_values({"nesterov": False, "dropout": 0, "label_smoothing": 0, "normalization": "imagenet", "pretrained": True})
RECIPES = {"default": SMALL, "torch-adam": ADAM, "keras-adam": KERAS, "plain-momentum": PLAIN}


@dataclass(frozen=True)
class Case:
    """What to trace, and what to plant before."""

    recipe: Recipe
    steps: int = 2
    plant: Plant | None = None


def architecture(change: Callable[[Any], Any]) -> Plant:
    """The engine builds another network than the recipe says."""

    def plant(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
        sound = module.ENGINE.network
        patch.setattr(module.ENGINE, "network", lambda self, recipe, table, factors: sound(self, recipe, change(table), factors))

    return plant


def padded(name: str, padding: tuple[int, int]) -> Plant:
    """The named convolution, padded otherwise by as many pixels."""

    def change(table: Any) -> Any:
        rows = [replace(row, padding=padding) if row.name == name else row for row in table.layers]
        return replace(table, layers=tuple(rows))

    return architecture(change)


def epsilon(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    sound = module.ENGINE.network
    patch.setattr(module.ENGINE, "network", lambda self, recipe, *rest: sound(self, recipe.with_values({"epsilon": 1e-7}), *rest))


def keras_momentum(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """v ← μ·v - η·g, w ← w + μ·v - η·g, as `keras.optimizers.SGD` has it: another path as soon as the rate changes."""

    def update(self: Any, gradients: list[Any], rate: Any, *_: Any) -> None:
        for (name, w), g in zip(self.parameters.items(), gradients, strict=True):
            if name.endswith(".weight"):
                g = g + self.recipe.weight_decay * w
            slots = self.optimizer_slots["momentum"]
            v = self.recipe.momentum * slots[name] - rate * g
            if module.ENGINE.name == "torch":
                slots[name].copy_(v)
                w.add_(self.recipe.momentum * v - rate * g)
            else:
                slots[name].assign(v)
                w.assign_add(self.recipe.momentum * v - rate * g)

    patch.setattr(network, "update", update)


def transposed_kernel(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Height and width of each kernel exchanged, on the way in and on the way out: no file of weights shows it."""

    def turned(array: Any) -> Any:
        return np.ascontiguousarray(array.swapaxes(2, 3)) if array.ndim == 4 else array

    if module.ENGINE.name == "tensorflow":
        into, out = module.from_canonical, module.to_canonical
        patch.setattr(module, "from_canonical", lambda array: into(turned(array)))
        patch.setattr(module, "to_canonical", lambda array: turned(out(array)))
        return
    sound = module.F.conv2d
    patch.setattr(module.F, "conv2d", lambda x, weight, *rest: sound(x, weight.mT, *rest))


def bgr(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    sound = network.place
    patch.setattr(network, "place", lambda self, split, images, labels: sound(self, split, images[..., ::-1].copy(), labels))


def half_pixel(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Pixel i of the large image at i·source/target of the small one, as `tf.compat.v1.image.resize_bilinear` has it."""

    def resize_matrix(source: int, target: int) -> np.ndarray:
        position = np.minimum(np.arange(target) * source / target, source - 1)
        left = np.minimum(position.astype(int), source - 2)
        matrix = np.zeros((target, source))
        matrix[np.arange(target), left] = 1 - (position - left)
        matrix[np.arange(target), left + 1] += position - left
        return matrix

    patch.setattr(module, "resize_matrix", resize_matrix)


def unbiased_variance(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Divided by n - 1, as `torch.std` does unasked, where `tf.image.per_image_standardization` divides by n."""
    sound = module.normalize

    def normalize(images: Any, how: str) -> Any:
        pixels = int(np.prod(images.shape[1:]))
        return sound(images, how) * ((pixels - 1) / pixels) ** 0.5

    patch.setattr(module, "normalize", normalize)


def other_smoothing(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Label smoothing over the other classes only."""
    sound = module.smoothed_cross_entropy
    patch.setattr(module, "smoothed_cross_entropy", lambda logits, targets, share: sound(logits, targets, share * 10 / 9))


def channels_first(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """No fault: PyTorch's other memory layout, in which its kernels add in another order."""
    patch.setattr(module.torch, "channels_last", module.torch.contiguous_format)


FAULTS = {
    "padding": Case(SMALL, plant=padded("features.3", (1, 3))),
    "same-at-stride-4": Case(SMALL, plant=architecture(lambda table: alexnet(image_size=64, width=1 / 16, conv1_padding="same"))),
    "odd-pixel-before": Case(KERAS, plant=padded("features.0", (4, 3))),
    "epsilon": Case(ADAM, plant=epsilon),
    "keras-momentum": Case(SMALL, plant=keras_momentum),
    "dropout-after": Case(SMALL, plant=architecture(lambda table: alexnet(image_size=64, width=1 / 16, dropout_position="after"))),
    "transposed-kernel": Case(SMALL, plant=transposed_kernel),
    "bgr": Case(SMALL, plant=bgr),
    "half-pixel": Case(SMALL, plant=half_pixel),
    "unbiased-variance": Case(KERAS, plant=unbiased_variance),
    "smoothing": Case(SMALL, plant=other_smoothing),
}
SOUND = {f"{label}-2": Case(recipe) for label, recipe in {"default": SMALL, "torch-adam": ADAM, "keras-adam": KERAS}.items()}
LONG = {
    f"{label}-{precision}": Case(recipe.with_values({"precision": precision}), steps=50)
    for label, recipe in RECIPES.items()
    for precision in ("fp64", "fp32")
}
GROWN = Recipe(batch_size=32, image_size=64, width=1 / 4, precision="fp32")
GROWTH = {
    "growth": Case(GROWN, steps=300),
    "growth-channels-first": Case(GROWN, steps=300, plant=channels_first),
    "growth-fp64": Case(GROWN.with_values({"precision": "fp64"}), steps=300),
}
CASES = {**FAULTS, **SOUND, **LONG, **GROWTH}


def write(name: str, case: Case, path: Path) -> None:
    """One trace by the engine `name`."""
    engine = open_engine(name, device="cpu", threads=1)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        if case.plant:
            (network,) = Network.__subclasses__()  # the other engine is not imported
            case.plant(patch, import_module(network.__module__), network)
        writer = TraceWriter(Path(folder))
        facts = trace(engine, case.recipe, writer, seed=3, steps=case.steps, at=frozenset({0, 1, case.steps - 1}))
        writer.finish(path, {**facts, "threads": 1})


if __name__ == "__main__":
    engine_name, folder, *labels = sys.argv[1:]
    for label in labels:
        write(engine_name, CASES[label], Path(folder) / f"{label}.safetensors")
    assert not {"torch", "tensorflow"} <= set(sys.modules), "both frameworks in one process"
