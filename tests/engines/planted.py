"""Faults that are planted in an engine: each something that two programs of "the same network" have been seen to do differently.

A plant exchanges a function of the engine, for as long as a trace takes.  `tests.engines.traces` traces with one, `test_planted` and
`python -m tools.faults` say where it is caught.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from job.core.architecture import alexnet
from job.engines import Network

Plant = Callable[[pytest.MonkeyPatch, Any, type[Network]], None]
"""plant(monkeypatch, the engine's module, its network's class)"""


@dataclass(frozen=True)
class Fault:
    """A plant, and the recipe that shows it, of `tests.engines.traces.RECIPES`."""

    what: str
    plant: Plant
    recipe: str = "default"


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


def momentum_filled(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """The first step begins with the gradient in the buffer instead of zeros."""

    def update(self: Any, gradients: list[Any], *rest: Any) -> None:
        for v, g in zip(self.optimizer_slots["momentum"].values(), gradients, strict=True):
            if module.ENGINE.name == "torch":
                v.copy_(v if v.any() else g)
            else:
                v.assign(module.tf.where(module.tf.reduce_any(v != 0), v, g))
        sound(self, gradients, *rest)

    sound = network.update  # type: ignore[attr-defined]
    patch.setattr(network, "update", update)


def decayed(self: Any, gradients: list[Any], ending: str) -> list[Any]:
    """Gradients with weight decay on the parameters whose names end so."""
    pairs = zip(self.parameters.items(), gradients, strict=True)
    return [g + 5e-4 * w if name.endswith(ending) else g for (name, w), g in pairs]


def decay_on_biases(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    sound = network.update  # type: ignore[attr-defined]
    patch.setattr(network, "update", lambda self, gradients, *rest: sound(self, decayed(self, gradients, ".bias"), *rest))


def built_without(**values: Any) -> Plant:
    """The engine ignores some settings of the recipe."""

    def plant(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
        sound = module.ENGINE.network
        patch.setattr(module.ENGINE, "network", lambda self, recipe, *rest: sound(self, recipe.with_values(values), *rest))

    return plant


def clipped(module: Any, gradients: list[Any], measured: list[Any], largest: float, epsilon: float = 1e-6) -> list[Any]:
    """All gradients, scaled by the norm of the `measured` ones."""
    if module.ENGINE.name == "torch":
        norm = module.torch.stack([g.square().sum() for g in measured]).sum().sqrt()
        return [g * (largest / (norm + epsilon)).clamp_max(1) for g in gradients]
    tf = module.tf
    norm = tf.sqrt(tf.reduce_sum(tf.stack([tf.reduce_sum(tf.square(g)) for g in measured])))
    return [g * tf.minimum(largest / (norm + epsilon), 1) for g in gradients]


def clip_without_biases(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    built_without(clip_norm=0)(patch, module, network)
    sound = network.update  # type: ignore[attr-defined]

    def update(self: Any, gradients: list[Any], *rest: Any) -> None:
        sound(self, clipped(module, gradients, gradients[::2], 0.1), *rest)

    patch.setattr(network, "update", update)


def decay_before_clip(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    built_without(clip_norm=0, weight_decay=0)(patch, module, network)
    sound = network.update  # type: ignore[attr-defined]

    def update(self: Any, gradients: list[Any], *rest: Any) -> None:
        gradients = decayed(self, gradients, ".weight")
        sound(self, clipped(module, gradients, gradients, 0.1), *rest)

    patch.setattr(network, "update", update)


def decoupled_decay(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """AdamW's: off the weights, not onto the gradient."""
    built_without(weight_decay=0)(patch, module, network)
    sound = network.update  # type: ignore[attr-defined]

    def update(self: Any, gradients: list[Any], rate: Any, *rest: Any) -> None:
        for name, w in self.parameters.items():
            if name.endswith(".weight"):
                shrunk = w * (1 - rate * 5e-4)
                w.copy_(shrunk) if module.ENGINE.name == "torch" else w.assign(shrunk)
        sound(self, gradients, rate, *rest)

    patch.setattr(network, "update", update)


def rates(change: Callable[[float, int], tuple[float, int]]) -> Plant:
    """Steps are taken at other (rate, number) than asked for."""

    def plant(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
        sound = network.step

        def step(self: Any, plan: Any, *, rate: float, number: int) -> None:
            rate, number = change(rate, number)
            sound(self, plan, rate=rate, number=number)

        patch.setattr(network, "step", step)

    return plant


def crops(change: Callable[[Any, Any], tuple[Any, Any]]) -> Plant:
    """Other selections of rows and columns than the plan's."""

    def plant(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
        sound = module.crop_and_flip
        patch.setattr(module, "crop_and_flip", lambda images, rows, columns, table: sound(images, *change(rows, columns), table))

    return plant


def cutout_off_by_one(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Its centre a pixel further down and to the right."""
    sound = module.cut_out
    patch.setattr(module, "cut_out", lambda images, centres, *rest: sound(images, (centres + 1) % 32, *rest))


def keys_reused(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Every step has the dropout masks of the first."""
    first: list[Any] = []

    def with_first_keys(plan: Any) -> Any:
        first.append(plan.dropout)
        return replace(plan, dropout=first[0])

    step, observe = network.step, network.observe
    patch.setattr(network, "step", lambda self, plan, **how: step(self, with_first_keys(plan), **how))
    patch.setattr(network, "observe", lambda self, plan: observe(self, with_first_keys(plan)))


def first_size(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Every step has the image size of the first, as a graph has that was traced once."""
    first: list[int] = []
    sound = network.step

    def step(self: Any, plan: Any, **how: Any) -> None:
        first.append(plan.image_size)
        sound(self, replace(plan, image_size=first[0]), **how)

    patch.setattr(network, "step", step)


def slots_lost(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    sound = network.load
    patch.setattr(network, "load", lambda self, weights, slots: sound(self, weights, ()))


def evaluation(change: Callable[[Any, Any, Any], tuple[Any, Any]]) -> Plant:
    """The forward pass of an evaluation gets other (images, keys): change(engine's module, network, images)."""

    def plant(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
        sound = network.forward  # type: ignore[attr-defined]

        def forward(self: Any, images: Any, keys: Any, *rest: Any) -> Any:
            return sound(self, *(change(module, self, images) if keys is None else (images, keys)), *rest)

        patch.setattr(network, "forward", forward)

    return plant


def with_keys(module: Any, network: Any, images: Any) -> tuple[Any, Any]:
    shape = (len(network.architecture.dropouts), images.shape[0])
    torch = module.ENGINE.name == "torch"
    return images, module.torch.zeros(shape, dtype=module.torch.int32) if torch else module.tf.zeros(shape, module.tf.uint32)


def shifted(module: Any, network: Any, images: Any) -> tuple[Any, Any]:
    """By one pixel to the right."""
    return (module.torch if module.ENGINE.name == "torch" else module.tf).roll(images, 1, 3), None


def brighter(by: float) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Pixel values that are scaled."""
    return lambda module, network, images: (images * by, None)


def normalization_in_evaluation(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Mean and deviation 0.5, where training has those of CIFAR-10."""
    forward, normalize = network.forward, module.normalize  # type: ignore[attr-defined]

    def planted(self: Any, images: Any, keys: Any, *rest: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            if keys is None:
                inner.setattr(module, "normalize", lambda x, how: normalize(x, "half"))
            return forward(self, images, keys, *rest)

    patch.setattr(network, "forward", planted)


def stale_evaluation(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Evaluations have the weights of the first one, as a graph has that captured them."""
    first: list[Any] = []
    sound = network.logits

    def logits(self: Any, split: Any, indices: Any) -> Any:
        now = [np.array(array) for _, array in self.weights()]
        first.append(now)
        slots = [(name, np.array(array)) for name, array in self.slots()]
        self.load(zip(self.parameters, first[0], strict=True), slots)
        found = sound(self, split, indices)
        self.load(zip(self.parameters, now, strict=True), slots)
        return found

    patch.setattr(network, "logits", logits)


def late_evaluation(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Evaluations have the weights before the last step, until others are loaded: an average of weights lags like this."""
    before: list[Any] = []
    step, load, logits = network.step, network.load, network.logits

    def planted_step(self: Any, plan: Any, **how: Any) -> None:
        before[:] = [np.array(array) for _, array in self.weights()]
        step(self, plan, **how)

    def planted_load(self: Any, *state: Any) -> None:
        before.clear()
        load(self, *state)

    def planted_logits(self: Any, *which: Any) -> Any:
        if not before:
            return logits(self, *which)
        now, slots = ([(name, np.array(array)) for name, array in tensors] for tensors in (self.weights(), self.slots()))
        load(self, zip(self.parameters, before, strict=True), slots)
        found = logits(self, *which)
        load(self, now, slots)
        return found

    for name, planted in (("step", planted_step), ("load", planted_load), ("logits", planted_logits)):
        patch.setattr(network, name, planted)


def momentum_reset(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Zeros at the start of the second epoch."""
    sound = network.step

    def step(self: Any, plan: Any, *, rate: float, number: int) -> None:
        if number == 5:
            self.load([(name, np.array(array)) for name, array in self.weights()], ())
        sound(self, plan, rate=rate, number=number)

    patch.setattr(network, "step", step)


def ema_without_warm_up(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    sound = network.average  # type: ignore[attr-defined]
    patch.setattr(network, "average", lambda self, decay: sound(self, self.recipe.ema_decay))


def clip_without_epsilon(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    built_without(clip_norm=0)(patch, module, network)
    sound = network.update  # type: ignore[attr-defined]

    def update(self: Any, gradients: list[Any], *rest: Any) -> None:
        sound(self, clipped(module, gradients, gradients, 0.1, epsilon=0), *rest)

    patch.setattr(network, "update", update)


def outcome(change: Callable[[Any, Any, Any, list[Any]], tuple[Any, Any, Any, list[Any]]]) -> Plant:
    """Another (loss, hits, logits, gradients) of a batch."""

    def plant(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
        sound = network.gradients  # type: ignore[attr-defined]
        patch.setattr(network, "gradients", lambda self, *batch: change(*sound(self, *batch)))

    return plant


def rounded_weights(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """No copy of the weights in 32 bits: they are bf16 after every step."""
    sound = network.update  # type: ignore[attr-defined]

    def update(self: Any, *words: Any) -> None:
        sound(self, *words)
        for w in self.parameters.values():
            if module.ENGINE.name == "torch":
                w.copy_(w.bfloat16())
            else:
                w.assign(module.tf.cast(module.tf.cast(w, module.tf.bfloat16), w.dtype))

    patch.setattr(network, "update", update)


def step_without_dropout(patch: pytest.MonkeyPatch, module: Any, network: type[Network]) -> None:
    """Only the step: what is observed beside it has dropout."""
    sound = network.step

    def step(self: Any, plan: Any, **how: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(module, "drop", lambda x, *_: x)
            sound(self, plan, **how)

    patch.setattr(network, "step", step)


FAULTS = {
    # the network
    "padding": Fault("padding (1, 3) for (2, 2)", padded("features.3", (1, 3))),
    "same-at-stride-4": Fault(
        "`same` padding at stride 4", architecture(lambda table: alexnet(image_size=64, width=1 / 16, conv1_padding="same"))
    ),
    "odd-pixel-before": Fault("the odd pixel of `same` before instead of after", padded("features.0", (4, 3)), "keras-adam"),
    "dropout-after": Fault(
        "dropout after each dense layer", architecture(lambda table: alexnet(image_size=64, width=1 / 16, dropout_position="after"))
    ),
    "transposed-kernel": Fault("kernels transposed", transposed_kernel),
    "bgr": Fault("BGR", bgr),
    "half-pixel": Fault("resizing without half-pixel centres", half_pixel),
    "unbiased-variance": Fault("variance over n - 1", unbiased_variance, "keras-adam"),
    # what a step gets
    "crop-range": Fault("rows of a crop from 8 offsets instead of 9", crops(lambda rows, columns: (rows * 7 // 8, columns))),
    "flip-axis": Fault("flipped top to bottom", crops(lambda rows, columns: (rows + columns // 9 * 9, columns % 9))),
    "cutout-off-by-one": Fault("cutout a pixel off", cutout_off_by_one, "averaged"),
    "dropout-keys-reused": Fault("dropout keys of the first step in every step", keys_reused),
    "first-size": Fault("the image size of the first step in every step", first_size, "growing"),
    "step-without-dropout": Fault("no dropout in the step, but in what is observed beside it", step_without_dropout),
    # loss, hits, gradients
    "smoothing": Fault("label smoothing over the other classes", other_smoothing),
    "hits-halved": Fault("hits halved", outcome(lambda loss, hits, logits, gradients: (loss, hits / 2, logits, gradients))),
    "gradients-3%": Fault(
        "gradients 3 % too large", outcome(lambda loss, hits, logits, gradients: (loss, hits, logits, [g * 1.03 for g in gradients]))
    ),
    # the optimiser
    "keras-momentum": Fault("Keras' momentum, which holds the learning rate", keras_momentum),
    "momentum-filled": Fault("momentum buffer filled at step 1", momentum_filled, "clipped"),
    "decay-on-biases": Fault("weight decay on biases", decay_on_biases, "clipped"),
    "clip-without-biases": Fault("norm for clipping without biases", clip_without_biases, "clipped"),
    "clip-without-epsilon": Fault("clipping without its 1e-6", clip_without_epsilon, "clipped"),
    "decay-before-clip": Fault("weight decay before clipping", decay_before_clip, "clipped"),
    "decoupled-decay": Fault("decoupled weight decay (AdamW)", decoupled_decay, "torch-adam"),
    "epsilon": Fault("ε 1e-7 for 1e-8", epsilon, "torch-adam"),
    "bias-correction": Fault("Adam's bias correction one step ahead", rates(lambda rate, number: (rate, number + 1)), "torch-adam"),
    "ema-without-warm-up": Fault("the whole decay of the average from the first step on", ema_without_warm_up, "averaged"),
    "momentum-reset": Fault("momentum buffer emptied at the second epoch", momentum_reset),
    "warm-up-off-by-one": Fault(
        "warm-up off by one", rates(lambda rate, number: (rate * (number - 1) / number if number <= 3 else rate, number)), "clipped"
    ),
    "last-rate": Fault("last rate 0", rates(lambda rate, number: (rate if number < 6 else 0.0, number)), "clipped"),
    "weights-in-bf16": Fault("weights rounded to bf16 after each step", rounded_weights),
    # the evaluation
    "dropout-in-evaluation": Fault("dropout in evaluation", evaluation(with_keys)),
    "normalization-in-evaluation": Fault("another normalisation in evaluation", normalization_in_evaluation),
    "shift-in-evaluation": Fault("images shifted by a pixel in evaluation", evaluation(shifted)),
    "brighter-evaluation": Fault("pixels / 256 for / 255 in evaluation", evaluation(brighter(255 / 256))),
    "stale-evaluation": Fault("evaluation of the weights of the first evaluation", stale_evaluation),
    "late-evaluation": Fault("evaluation of the weights before the last step", late_evaluation),
    # the checkpoint
    "slots-lost": Fault("slots lost on load", slots_lost),
}
