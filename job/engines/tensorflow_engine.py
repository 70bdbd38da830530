"""TensorFlow and Keras: the network and one optimiser step.  Reads side by side with `torch_engine.py`."""

import os
import re
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from job.core import dropout
from job.core.architecture import POOLED, Architecture, Layer, same_padding
from job.core.exits import JobError
from job.core.identity_records import Environment
from job.core.place import Place
from job.core.recipe import Precision, Recipe
from job.core.sampling import NORMALIZATION, StepPlan, mean_colour, pool_matrix, resize_matrix, selections, squares
from job.core.schedule import ema_decay
from job.core.sharding import tree_sum
from job.engines import ALONE, OBSERVED_IMAGES, Engine, Network, SplitName, Tensors, tables
from job.engines.exchange import Exchange
from job.engines.faults import DEVICE_WORDS, OUR_FAULT, broken_gpu, failed_gpu, full_gpu, no_gpu, too_few_gpus
from job.engines.host import computes_in_bf16

OF_DEVICE = (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.UnavailableError, tf.errors.AbortedError)
POLICIES = {"bf16": "mixed_bfloat16", "fp32": "float32", "fp64": "float64"}


class TensorflowEngine(Engine):
    name = "tensorflow"

    def __init__(self, *, device: str, gpu: int = 0) -> None:
        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        gpus = tf.config.list_physical_devices("GPU") if device != "cpu" else []
        if device == "cuda" and not gpus:
            raise no_gpu("tensorflow", f"tensorflow {tf.__version__}, list_physical_devices('GPU') is empty")
        if gpus and gpu >= len(gpus):
            raise too_few_gpus(gpu, len(gpus))
        self.gpu = gpus[gpu] if gpus else None
        tf.config.set_visible_devices(self.gpu or [], "GPU")
        if self.gpu:
            tf.config.experimental.set_memory_growth(self.gpu, True)
        self.device = "/GPU:0" if gpus else "/CPU:0"

    def start(self, threads: int) -> None:
        self._take(threads)
        self._try_device()

    def meet(self, threads: int, place: Place, shards: int, silence: float) -> Exchange:
        from job.engines.tensorflow_exchange import TensorflowExchange

        self._take(threads)
        exchange = TensorflowExchange(place, shards, self.device, silence)  # before a first kernel
        self._try_device()
        return exchange

    def _take(self, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(min(threads, 2))  # gradients of weights beside those of inputs

    def _try_device(self) -> None:
        try:
            with tf.device(self.device):
                tf.reduce_sum(tf.matmul(tf.ones((8, 8)), tf.ones((8, 8)))).numpy()
        except tf.errors.OpError as error:
            raise broken_gpu("tensorflow", error) from error

    def fault(self, error: Exception) -> JobError | None:
        of_device = re.search(DEVICE_WORDS, str(error))
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return full_gpu(self.name, error) if of_device else None
        if not isinstance(error, OF_DEVICE) or OUR_FAULT in str(error):
            return None
        return failed_gpu(self.name, error) if of_device else None

    def resolve(self, precision: Precision) -> Precision:
        if precision != "auto":
            return precision
        capability = tf.config.experimental.get_device_details(self.gpu).get("compute_capability") if self.gpu else None
        return "bf16" if (capability and capability >= (8, 0) if self.gpu else computes_in_bf16()) else "fp32"

    def environment(self) -> Environment:
        build = tf.sysconfig.get_build_info()
        return {
            "engine": self.name,
            "device": tf.config.experimental.get_device_details(self.gpu).get("device_name") if self.gpu else "cpu",
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "cuda": build.get("cuda_version") if self.gpu else None,
            "cudnn": build.get("cudnn_version") if self.gpu else None,
            "numpy": np.__version__,
        }

    def network(
        self, recipe: Recipe, architecture: Architecture, rate_factors: Mapping[str, float] | None = None, exchange: Exchange = ALONE
    ) -> Network:
        return TensorflowNetwork(self.device, recipe, architecture, rate_factors or {}, exchange)


class TensorflowNetwork(Network):
    def __init__(
        self, device: str, recipe: Recipe, architecture: Architecture, rate_factors: Mapping[str, float], exchange: Exchange
    ) -> None:
        self.device, self.recipe, self.architecture, self.rate_factors = device, recipe, architecture, rate_factors
        self.exchange, self.shards = exchange, exchange.shards
        self.dtype = tf.float64 if recipe.precision == "fp64" else tf.float32
        self.tables = tables(recipe, architecture)
        sides = {table.pooled_side for table in self.tables.values()}
        with tf.device(device):
            self.model = build_model(architecture, sides, POLICIES[recipe.precision])
            self.parameters = named_parameters(self.model, architecture)
            self.evaluated = build_model(architecture, sides, POLICIES[recipe.precision]) if recipe.ema_decay else self.model
            self.averages = named_parameters(self.evaluated, architecture)
            self.optimizer_slots = {
                slot: OrderedDict((n, tf.Variable(tf.zeros_like(p), trainable=False)) for n, p in self.parameters.items())
                for slot in recipe.update_slots
            }
            if recipe.ema_decay:
                self.optimizer_slots["trained"] = self.parameters
            self.column_keys = [tf.constant(dropout.column_keys(int(np.prod(d.in_shape)))) for d in architecture.dropouts]
            self.selections = tf.constant(selections())
            self.squares, self.colour = tf.constant(squares(recipe.cutout)), tf.constant(mean_colour(recipe.normalization))
            self.resizes = {  # variables, since `export` keeps them
                size: tf.Variable(resize_matrix(32, size), dtype=self.dtype, trainable=False) for size in self.tables
            }
        self._step, self._of_shard, self._apply = map(tf.function, (self.train_step, self.of_shard, self.apply))
        self._add = tf.function(add)  # a call for each sum of two: within one graph TensorFlow adds several in an order of its own
        self._observed = tf.function(self.gradients)  # compiled like a step: operations one by one round otherwise
        self._logits = {split: tf.function(lambda indices, split=split: self._evaluate(split, indices)) for split in ("train", "test")}
        self.splits: dict[SplitName, tuple[tf.Variable, tf.Variable]] = {}
        self.outcomes: list[tf.Tensor] = []

    def place(self, split: SplitName, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        targets = np.eye(self.architecture.classes, dtype=self.dtype.as_numpy_dtype)[labels]
        with tf.device(self.device):
            pixels = tf.Variable(images, trainable=False)  # (N, 32, 32, 3)
            self.splits[split] = (pixels, tf.Variable(targets, trainable=False))  # (N, classes)

    def load(self, weights: Tensors, slots: Tensors) -> None:
        for name, array in weights:
            self.averages[name].assign(from_canonical(array))
            self.parameters[name].assign(self.averages[name])
        for slot in self.recipe.update_slots:
            for variable in self.optimizer_slots[slot].values():
                variable.assign(tf.zeros_like(variable))
        for name, array in slots:
            slot, parameter = name.split("/")
            self.optimizer_slots[slot][parameter].assign(from_canonical(array))

    def step(self, plan: StepPlan, *, rate: float, number: int) -> None:
        recipe = self.recipe
        corrections = (1.0, 1.0) if recipe.optimizer == "sgd" else (1 - recipe.beta1**number, (1 - recipe.beta2**number) ** 0.5)
        scalars = np.array([rate, *corrections, ema_decay(recipe, number)], self.dtype.as_numpy_dtype)
        with tf.device(self.device):
            if self.shards == 1:
                self.outcomes.append(self._step(*self._constants(plan), tf.constant(scalars), plan.image_size))
                return
            of_shard = lambda shard: self._of_shard(*self._constants(plan.shard(shard, self.shards)), plan.image_size)  # noqa: E731
            parts = tree_sum(of_shard, self._add, self.exchange.mine)
            self.outcomes.append(self._apply(self.exchange.add(parts), tf.constant(scalars)))

    def train_step(
        self,
        indices: tf.Tensor,
        rows: tf.Tensor,
        columns: tf.Tensor,
        centres: tf.Tensor,
        keys: tf.Tensor,
        scalars: tf.Tensor,
        image_size: int,
    ) -> tf.Tensor:
        return self.apply(self.of_shard(indices, rows, columns, centres, keys, image_size), scalars)

    def of_shard(
        self, indices: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, centres: tf.Tensor, keys: tf.Tensor, image_size: int
    ) -> list[tf.Tensor]:
        """[hits, mean loss, gradient of every parameter] of one shard of the batch, all of one type."""
        images, targets = self._batch(indices, rows, columns, centres)
        loss, hits, _, gradients = self.gradients(images, targets, keys, image_size)
        return [tf.cast(hits, loss.dtype), loss, *gradients]

    def apply(self, parts: list[tf.Tensor], scalars: tf.Tensor) -> tf.Tensor:
        """Take the step, from the sum of what `of_shard` gives; returns (loss, hits)."""
        hits, loss, *gradients = parts
        if self.shards > 1:
            loss, *gradients = [part * (1 / self.shards) for part in (loss, *gradients)]  # a power of two: exact
        if self.recipe.clip_norm:
            gradients = clip(gradients, self.recipe.clip_norm)
        rate, *corrections, decay = tf.unstack(scalars)
        self.update(gradients, rate, *corrections)
        if self.recipe.ema_decay:
            self.average(decay)
        return tf.stack([loss, hits])

    def gradients(
        self, images: tf.Tensor, targets: tf.Tensor, keys: tf.Tensor | None, image_size: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """(loss, hits, logits, gradient of every parameter) of one batch of cropped images."""
        with tf.GradientTape() as tape:
            logits = self.forward(images, keys, image_size)
            loss = smoothed_cross_entropy(logits, targets, self.recipe.label_smoothing)
        hits = tf.reduce_sum(tf.cast(tf.equal(tf.argmax(logits, 1), tf.argmax(targets, 1)), tf.float32))
        return loss, hits, logits, tape.gradient(loss, list(self.parameters.values()))

    def forward(self, images: tf.Tensor, keys: tf.Tensor | None, image_size: int) -> tf.Tensor:
        """(B, 3, 32, 32) pixel values → (B, classes) logits; with `keys` (dropout layers, B) as in training, else without dropout."""
        _, x = deque(self.stages(images, keys, image_size), maxlen=1).pop()
        return tf.cast(x, self.dtype)

    def stages(self, images: tf.Tensor, keys: tf.Tensor | None, image_size: int) -> Iterator[tuple[str, tf.Tensor]]:
        """The way from pixel values to logits, each stage with its name; between `resize` and `avgpool` channels come last."""
        x = normalize(tf.cast(images, self.dtype), self.recipe.normalization)
        yield "normalize", x
        resize = self.resizes[image_size]
        x = tf.matmul(tf.matmul(resize, x), resize, transpose_b=True)  # (B, 3, image_size, image_size)
        yield "resize", x
        x = tf.transpose(x, (0, 2, 3, 1))
        position = 0
        for layer, module in walk(self.evaluated if keys is None else self.model, self.tables[image_size]):
            if layer.kind == "dropout":
                if keys is not None and self.recipe.dropout:
                    x = drop(x, keys[position], self.column_keys[position], self.recipe.dropout)
                position += 1
            else:
                for part in module:
                    x = part(x)
            yield layer.name, x

    def update(self, gradients: list[tf.Tensor], rate: tf.Tensor, bias_correction1: tf.Tensor, bias_correction2_sqrt: tf.Tensor) -> None:
        """docs/design.md, "Update rule"."""
        recipe, slots = self.recipe, self.optimizer_slots
        for (name, w), g in zip(self.parameters.items(), gradients, strict=True):
            factor = rate * self.rate_factors.get(name, 1.0)
            if recipe.weight_decay and name.endswith(".weight"):
                with tf.control_dependencies([g]):  # else the products of all layers exist from the start of the step on
                    g = g + recipe.weight_decay * w
            if recipe.optimizer == "sgd":
                if recipe.momentum:
                    v, momentum = slots["momentum"][name], tf.constant(recipe.momentum, self.dtype)
                    rule = {"lr": factor, "momentum": momentum, "use_nesterov": recipe.nesterov}
                    tf.raw_ops.ResourceApplyMomentum(var=w.handle, accum=v.handle, grad=g, **rule)
                else:
                    w.assign_sub(factor * g)
                continue
            m, v = slots["first_moment"][name], slots["second_moment"][name]
            m.assign(recipe.beta1 * m + (1 - recipe.beta1) * g)
            v.assign(recipe.beta2 * v + (1 - recipe.beta2) * (g * g))
            if recipe.optimizer == "adam":
                w.assign_sub(factor / bias_correction1 * (m / (tf.sqrt(v) / bias_correction2_sqrt + recipe.epsilon)))
            else:
                w.assign_sub(factor * bias_correction2_sqrt / bias_correction1 * (m / (tf.sqrt(v) + recipe.epsilon)))

    def average(self, decay: tf.Tensor) -> None:
        """average ← average + (1 - decay) · (weight - average)"""
        for average, w in zip(self.averages.values(), self.parameters.values(), strict=True):
            average.assign_add((1 - decay) * (w - average))

    def observe(self, plan: StepPlan) -> Tensors:
        with tf.device(self.device):
            *given, keys = self._constants(plan)
        images, targets = self._batch(*given)
        yield "inputs", images.numpy()
        if self.recipe.dropout:
            for layer, row_keys, column_keys in zip(self.architecture.dropouts, keys, self.column_keys, strict=True):
                yield f"masks/{layer.name}", keep_mask(row_keys, column_keys, self.recipe.dropout).numpy()
        for name, x in self.stages(images, keys, plan.image_size):
            activation = tf.cast(x[:OBSERVED_IMAGES], self.dtype).numpy()
            yield f"activations/{name}", activation.transpose(0, 3, 1, 2) if name.startswith("features.") else activation
        _, _, logits, gradients = self._observed(images, targets, keys, plan.image_size)
        yield "logits", logits.numpy()
        for name, gradient in zip(self.parameters, gradients, strict=True):
            yield f"gradients/{name}", to_canonical(gradient)

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if not self.outcomes:
            return np.zeros(0), np.zeros(0, np.int64)
        losses, hits = tf.stack(self.outcomes).numpy().T
        self.outcomes.clear()
        return losses.astype(np.float64), hits.astype(np.int64)

    def logits(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        with tf.device(self.device):
            return self._logits[split](tf.constant(indices)).numpy().astype(np.float32)

    def _evaluate(self, split: SplitName, indices: tf.Tensor) -> tf.Tensor:
        images, _ = self._gather(split, indices)
        return self.forward(images, None, self.recipe.image_size)

    def export(self, path: Path) -> None:
        import tf2onnx

        size = self.recipe.image_size
        logits = tf.function(lambda images: {"logits": self.forward(tf.transpose(images, (0, 3, 1, 2)), None, size)})
        signature = [tf.TensorSpec((None, 32, 32, 3), tf.uint8, name="images")]
        tf2onnx.convert.from_function(logits, input_signature=signature, opset=18, output_path=str(path))

    def weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, variable in self.averages.items():
            yield name, to_canonical(variable)

    def slots(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for slot, variables in self.optimizer_slots.items():
            for name, variable in variables.items():
                yield f"{slot}/{name}", to_canonical(variable)

    def _constants(self, plan: StepPlan) -> list[tf.Tensor]:
        return [tf.constant(array) for array in (plan.indices, plan.rows, plan.columns, plan.centres, plan.dropout)]

    def _batch(self, indices: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, centres: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Augmented images (B, 3, 32, 32) and targets (B, classes) of a training step."""
        images, targets = self._gather("train", indices)
        images = crop_and_flip(images, rows, columns, self.selections)
        if self.recipe.cutout:
            images = cut_out(images, centres, self.squares, self.colour)
        return images, targets

    def _gather(self, split: SplitName, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images (B, 3, 32, 32) with values 0 … 255, and targets (B, classes)."""
        images, targets = self.splits[split]
        planes = tf.transpose(tf.cast(tf.gather(images, indices), tf.float32), (0, 3, 1, 2))
        return planes, tf.gather(targets, indices)


@keras.saving.register_keras_serializable("alexnet")
class AdaptiveAverage(keras.layers.Layer):
    """Adaptive average pooling of (B, C, side, side) to 6 × 6 as two small products, as in the other engine."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        side = x.shape[-1]
        if side == POOLED:
            return x
        matrix = keras.ops.convert_to_tensor(pool_matrix(side, POOLED), x.dtype)
        return keras.ops.matmul(keras.ops.matmul(matrix, x), keras.ops.transpose(matrix))  # (B, C, 6, 6)


def build_model(architecture: Architecture, pooled_sides: Set[int], policy: str) -> keras.Model:
    """A plain Keras model, (B, image_size, image_size, 3) → (B, classes); `model.save("alexnet.keras")` works."""
    x = inputs = keras.Input((architecture.image_size, architecture.image_size, 3))
    for layer in architecture.layers:
        for module in build_modules(layer, pooled_sides, policy):
            x = module(x)
    return keras.Model(inputs, x, name="alexnet")


def build_modules(layer: Layer, pooled_sides: Set[int], policy: str) -> list[keras.layers.Layer]:
    """Keras layers for one row of the table; the first bears its name."""
    name = keras_name(layer)
    match layer.kind:
        case "conv":
            same = layer.padding == same_padding(layer.in_shape[1], kernel=layer.kernel, stride=layer.stride)
            sizes, padding = (layer.out_shape[0], layer.kernel, layer.stride), "same" if same else "valid"
            convolution = keras.layers.Conv2D(*sizes, padding=padding, kernel_initializer="zeros", name=name, dtype=policy)
            padded = keras.layers.ZeroPadding2D((layer.padding, layer.padding), name=f"{name}_padding", dtype=policy)
            return [convolution] if same else [padded, convolution]
        case "dense":
            return [keras.layers.Dense(layer.out_shape[0], kernel_initializer="zeros", name=name, dtype=policy)]
        case "maxpool":
            return [keras.layers.MaxPooling2D(layer.kernel, layer.stride, name=name, dtype=policy)]
        case "relu":
            return [keras.layers.ReLU(name=name, dtype=policy)]
        case "dropout":
            return [keras.layers.Dropout(0.5, name=name, dtype=policy)]
        case "avgpool":  # from here on channels first, so that features are numbered as in torchvision
            pool = [] if pooled_sides == {POOLED} else [AdaptiveAverage(name=name, dtype=policy)]
            return [keras.layers.Permute((3, 1, 2), name=f"{name}_permute", dtype=policy), *pool]
        case "flatten":
            return [keras.layers.Flatten(name=name, dtype=policy)]


def walk(model: keras.Model, architecture: Architecture) -> Iterator[tuple[Layer, list[keras.layers.Layer]]]:
    """Each row of the table with its Keras layers."""
    for layer in architecture.layers:
        name = keras_name(layer)
        yield layer, [module for module in model.layers if module.name in (name, f"{name}_padding", f"{name}_permute")]


def keras_name(layer: Layer) -> str:
    return layer.name.replace(".", "_")


def named_parameters(model: keras.Model, architecture: Architecture) -> "OrderedDict[str, tf.Variable]":
    """Canonical name → variable, in network order."""
    parameters = OrderedDict()
    for layer in architecture.weighted:
        module = model.get_layer(keras_name(layer))
        parameters[f"{layer.name}.weight"] = module.kernel.value
        parameters[f"{layer.name}.bias"] = module.bias.value
    return parameters


def to_canonical(tensor: tf.Tensor | tf.Variable) -> NDArray[Any]:
    """HWIO → OIHW, (in, out) → (out, in); turned on the device, and on a CPU not copied once more, as `numpy()` would."""
    return np.asarray(tf.transpose(tensor, (3, 2, 0, 1) if len(tensor.shape) == 4 else None))


def from_canonical(array: NDArray[Any]) -> NDArray[Any]:
    """OIHW → HWIO, (out, in) → (in, out)."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def crop_and_flip(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, selections: tf.Tensor) -> tf.Tensor:
    """(B, 3, 32, 32) → the same shape.  The selections hold zeros and a one per row, so the products are exact."""
    above, beside = tf.gather(selections, rows)[:, None], tf.gather(selections, columns)[:, None]
    return tf.matmul(tf.matmul(above, images), beside, transpose_b=True)


def cut_out(images: tf.Tensor, centres: tf.Tensor, squares: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    """(B, 3, 32, 32) → the same shape, with a square of one colour in each image."""
    rows, columns = tf.gather(squares, centres[0]), tf.gather(squares, centres[1])
    hole = rows[:, None, :, None] * columns[:, None, None, :]  # (B, 1, 32, 32) zeros and ones, so that the products are exact
    return images * (1 - hole) + colour * hole


def normalize(images: tf.Tensor, normalization: str) -> tf.Tensor:
    """Pixel values 0 … 255 → about zero mean and unit deviation.  `per-image` is `tf.image.per_image_standardization`."""
    if normalization == "per-image":
        centred = images - tf.reduce_mean(images, (1, 2, 3), keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), (1, 2, 3), keepdims=True))
        return centred / tf.maximum(deviation, int(np.prod(images.shape[1:])) ** -0.5)
    mean, deviation = NORMALIZATION[normalization]
    red, green, blue = tf.unstack(images, axis=1)
    channels = [(plane - 255 * m) / (255 * d) for plane, m, d in zip((red, green, blue), mean, deviation, strict=True)]
    return tf.stack(channels, 1)


def drop(x: tf.Tensor, row_keys: tf.Tensor, column_keys: tf.Tensor, rate: float) -> tf.Tensor:
    """(B, features), the kept ones scaled by 1 / (1 - rate)."""
    return x * (tf.cast(keep_mask(row_keys, column_keys, rate), x.dtype) * (1 / (1 - rate)))


def keep_mask(row_keys: tf.Tensor, column_keys: tf.Tensor, rate: float) -> tf.Tensor:
    """`job.core.dropout.keep_mask` in uint32, whose arithmetic has GPU kernels (int32's runs on the host)."""
    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    uint32 = partial(tf.constant, dtype=tf.uint32)
    x = xor(row_keys[:, None], column_keys[None, :])
    x = xor(x, shift(x, uint32(16))) * uint32(dropout.MULTIPLIERS[0])
    x = xor(x, shift(x, uint32(15))) * uint32(dropout.MULTIPLIERS[1])
    x = xor(x, shift(x, uint32(16)))
    return shift(x, uint32(8)) >= uint32(dropout.threshold(rate))


def smoothed_cross_entropy(logits: tf.Tensor, targets: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Mean over the batch of Σ -t·log p, the targets mixed with `smoothing` of a uniform distribution."""
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    return -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(logits, 1), 1))


def add(a: list[tf.Tensor], b: list[tf.Tensor]) -> list[tf.Tensor]:
    """a + b, one by one."""
    return [x + y for x, y in zip(a, b, strict=True)]


def clip(gradients: list[tf.Tensor], max_norm: float) -> list[tf.Tensor]:
    """Scale so that the global norm is at most `max_norm` (Pascanu et al. 2013, with 1e-6 added to the norm)."""
    factor = tf.minimum(max_norm / (tf.linalg.global_norm(gradients) + 1e-6), 1)
    return [g * factor for g in gradients]


ENGINE = TensorflowEngine
