"""PyTorch: the network and one optimiser step.  Reads side by side with `tensorflow_engine.py`."""

import os
import re
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Set
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by cuBLAS for the same sums in every run
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # c10d warns of each question that a worker which is gone does not answer

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.sgd import sgd

from job.core import dropout
from job.core.architecture import POOLED, Architecture, Layer
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
from job.engines.host import computes_in_bf16, keep_freed_memory

ACTIVATION_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
NONDETERMINISTIC = " does not have a deterministic implementation"
"""in a warning of torch, after the operation's name"""
SIGNED_MULTIPLIERS = tuple(m - 2**32 if m >= 2**31 else m for m in dropout.MULTIPLIERS)


class TorchEngine(Engine):
    name = "torch"

    def __init__(self, *, device: str, gpu: int = 0) -> None:
        torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms also imports the whole compiler, for a second and more
        torch.utils.deterministic.fill_uninitialized_memory = False  # a check for programs that read it: 9 % of a step
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise no_gpu("torch", f"torch {torch.__version__}, torch.cuda.device_count() = {torch.cuda.device_count()}")
        self.device = torch.device(device)
        if device == "cuda":
            if gpu >= torch.cuda.device_count():
                raise too_few_gpus(gpu, torch.cuda.device_count())
            torch.cuda.set_device(gpu)
        self._nondeterministic: dict[str, None] = {}
        """in the order of their first use"""
        self._show_warning = warnings.showwarning
        warnings.filterwarnings("always", f".*{NONDETERMINISTIC}")
        warnings.showwarning = cast(Any, self._note_warning)

    def _note_warning(self, message: Warning | str, *words: Any) -> None:
        """Remember the operations that "warn" above is about, and show each once."""
        operation, found, _ = str(message).partition(NONDETERMINISTIC)
        if not found or operation not in self._nondeterministic:
            self._show_warning(message, *words)
        if found:
            self._nondeterministic[operation] = None

    @property
    def nondeterministic(self) -> list[str]:
        return [*self._nondeterministic]

    def start(self, threads: int) -> None:
        keep_freed_memory()
        torch.set_num_threads(threads)
        if self.device.type == "cuda":
            try:
                torch.ones(8, 8, device="cuda").matmul(torch.ones(8, 8, device="cuda")).sum().item()
            except RuntimeError as error:
                raise broken_gpu("torch", error) from error

    def meet(self, threads: int, place: Place, shards: int, silence: float) -> Exchange:
        from job.engines.torch_exchange import TorchExchange

        self.start(threads)
        return TorchExchange(place, shards, self.device, silence)

    def fault(self, error: Exception) -> JobError | None:
        if isinstance(error, torch.OutOfMemoryError):
            return full_gpu(self.name, error)
        if not isinstance(error, RuntimeError) or OUR_FAULT in str(error):
            return None
        of_device = isinstance(error, torch.AcceleratorError) or re.search(DEVICE_WORDS, str(error))
        return failed_gpu(self.name, error) if of_device else None

    def resolve(self, precision: Precision) -> Precision:
        if precision != "auto":
            return precision
        gpu = self.device.type == "cuda"
        return "bf16" if (torch.cuda.get_device_capability() >= (8, 0) if gpu else computes_in_bf16()) else "fp32"

    def environment(self) -> Environment:
        gpu = self.device.type == "cuda"
        return {
            "engine": self.name,
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda if gpu else None,
            "cudnn": torch.backends.cudnn.version() if gpu else None,
            "numpy": np.__version__,
        }

    def network(
        self, recipe: Recipe, architecture: Architecture, rate_factors: Mapping[str, float] | None = None, exchange: Exchange = ALONE
    ) -> Network:
        return TorchNetwork(self.device, recipe, architecture, rate_factors or {}, exchange)


class TorchNetwork(Network):
    def __init__(
        self, device: torch.device, recipe: Recipe, architecture: Architecture, rate_factors: Mapping[str, float], exchange: Exchange
    ) -> None:
        self.device, self.recipe, self.architecture = device, recipe, architecture
        self.exchange, self.shards = exchange, exchange.shards
        self.activation_dtype = ACTIVATION_DTYPES[recipe.precision]
        self.dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
        self.tables = tables(recipe, architecture)
        sides = {table.pooled_side for table in self.tables.values()}
        self.model = build_model(architecture, sides).to(device, self.dtype, memory_format=torch.channels_last)
        self.parameters = OrderedDict(self.model.named_parameters())
        self.evaluated = deepcopy(self.model) if recipe.ema_decay else self.model
        self.averages = OrderedDict(self.evaluated.named_parameters())
        self.optimizer_slots = {slot: {n: torch.zeros_like(p) for n, p in self.parameters.items()} for slot in recipe.update_slots}
        if recipe.ema_decay:
            self.optimizer_slots["trained"] = self.parameters
        self.groups = update_groups(recipe, self.parameters, rate_factors)
        self.column_keys = [self._to_device(dropout.column_keys(int(np.prod(d.in_shape))).view(np.int32)) for d in architecture.dropouts]
        self.selections = self._to_device(selections())
        self.squares, self.colour = self._to_device(squares(recipe.cutout)), self._to_device(mean_colour(recipe.normalization))
        self.resizes = {size: self._to_device(resize_matrix(32, size)).to(self.dtype) for size in self.tables}
        self.splits: dict[SplitName, tuple[Tensor, Tensor]] = {}
        self.outcomes: list[Tensor] = []

    def place(self, split: SplitName, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        pixels = torch.from_numpy(images).to(self.device)  # (N, 32, 32, 3); on a CPU the same memory
        targets = self._to_device(np.eye(self.architecture.classes, dtype=np.float32)[labels]).to(self.dtype)  # (N, classes)
        self.splits[split] = (pixels, targets)

    def load(self, weights: Tensors, slots: Tensors) -> None:
        with torch.no_grad():
            for name, array in weights:
                self.averages[name].copy_(torch.from_numpy(array))
                self.parameters[name].copy_(self.averages[name])
            for slot in self.recipe.update_slots:
                for tensor in self.optimizer_slots[slot].values():
                    tensor.zero_()
            for name, array in slots:
                slot, parameter = name.split("/")
                self.optimizer_slots[slot][parameter].copy_(torch.from_numpy(array))

    def step(self, plan: StepPlan, *, rate: float, number: int) -> None:
        hits, loss, *gradients = self.exchange.add(tree_sum(lambda shard: self.of_shard(plan, shard), add, self.exchange.mine))
        with torch.no_grad():
            if self.shards > 1:
                torch._foreach_mul_([loss, *gradients], 1 / self.shards)  # a power of two: exact
            if self.recipe.clip_norm:
                clip(gradients, self.recipe.clip_norm)
            self.update(gradients, rate, number)
            if self.recipe.ema_decay:
                self.average(ema_decay(self.recipe, number))
        self.outcomes.append(torch.stack([loss, hits]))

    def of_shard(self, plan: StepPlan, shard: int) -> list[Tensor]:
        """[hits, mean loss, gradient of every parameter] of one shard of the batch, all of one type."""
        loss, hits, _, gradients = self.gradients(*self._batch(plan.shard(shard, self.shards)), plan.image_size)
        return [hits.to(loss.dtype), loss, *gradients]

    def gradients(
        self, images: Tensor, targets: Tensor, keys: Tensor | None, image_size: int
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """(loss, hits, logits, gradient of every parameter) of one batch of cropped images."""
        logits = self.forward(images, keys, image_size)
        loss = smoothed_cross_entropy(logits, targets, self.recipe.label_smoothing)
        hits = (logits.detach().argmax(1) == targets.argmax(1)).sum()
        return loss.detach(), hits, logits.detach(), list(torch.autograd.grad(loss, list(self.parameters.values())))

    def forward(self, images: Tensor, keys: Tensor | None, image_size: int) -> Tensor:
        """(B, 3, 32, 32) pixel values → (B, classes) logits; with `keys` (dropout layers, B) as in training, else without dropout."""
        _, x = deque(self.stages(images, keys, image_size), maxlen=1).pop()
        return x.to(self.dtype)

    def stages(self, images: Tensor, keys: Tensor | None, image_size: int) -> Iterator[tuple[str, Tensor]]:
        """The way from pixel values to logits, each stage with its name."""
        x = normalize(images.to(self.dtype), self.recipe.normalization)
        yield "normalize", x
        resize = self.resizes[image_size]
        x = resize @ x @ resize.mT  # (B, 3, image_size, image_size)
        yield "resize", x
        x = x.to(self.activation_dtype).contiguous(memory_format=torch.channels_last)
        position = 0
        for layer, module in walk(self.evaluated if keys is None else self.model, self.tables[image_size]):
            if layer.kind == "dropout":
                if keys is not None and self.recipe.dropout:
                    x = drop(x, keys[position], self.column_keys[position], self.recipe.dropout)
                position += 1
            else:
                x = apply(layer, module, x)
            yield layer.name, x

    def update(self, gradients: list[Tensor], rate: float, number: int) -> None:
        """docs/design.md, "Update rule".  Gradients may be overwritten."""
        given = dict(zip(self.parameters, gradients, strict=True))
        for (factor, decay), names in self.groups.items():
            ws = [self.parameters[name] for name in names]
            gs = [laid_out_like(w, given[name]) for w, name in zip(ws, names, strict=True)]
            slots = [[self.optimizer_slots[slot][name] for name in names] for slot in self.recipe.update_slots]
            if self.recipe.optimizer == "sgd":
                momentum, nesterov = self.recipe.momentum, self.recipe.nesterov
                rule = {"momentum": momentum, "nesterov": nesterov, "dampening": 0.0, "weight_decay": decay, "maximize": False}
                sgd(ws, gs, *slots, lr=rate * factor, fused=True, **rule)
            else:
                adam(self.recipe, ws, gs, *slots, rate=rate * factor, decay=decay, number=number)

    def average(self, decay: float) -> None:
        """average ← average + (1 - decay) · (weight - average)"""
        torch._foreach_lerp_(list(self.averages.values()), list(self.parameters.values()), 1 - decay)

    def observe(self, plan: StepPlan) -> Tensors:
        images, targets, keys = self._batch(plan)
        yield "inputs", images.cpu().numpy()
        if self.recipe.dropout:
            for layer, row_keys, column_keys in zip(self.architecture.dropouts, keys, self.column_keys, strict=True):
                yield f"masks/{layer.name}", keep_mask(row_keys, column_keys, self.recipe.dropout).cpu().numpy()
        for name, x in self.stages(images, keys, plan.image_size):
            yield f"activations/{name}", x[:OBSERVED_IMAGES].detach().to(self.dtype).cpu().contiguous().numpy()
        _, _, logits, gradients = self.gradients(images, targets, keys, plan.image_size)
        yield "logits", logits.cpu().numpy()
        for name, gradient in zip(self.parameters, gradients, strict=True):
            yield f"gradients/{name}", gradient.cpu().contiguous().numpy()

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if not self.outcomes:
            return np.zeros(0), np.zeros(0, np.int64)
        losses, hits = torch.stack(self.outcomes).cpu().numpy().T
        self.outcomes.clear()
        return losses.astype(np.float64), hits.astype(np.int64)

    def logits(self, split: SplitName, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images, _ = self._gather(split, indices)
            return self.forward(images, None, self.recipe.image_size).cpu().numpy().astype(np.float32)

    def export(self, path: Path) -> None:
        example = torch.zeros(2, 32, 32, 3, dtype=torch.uint8, device=self.device)
        facts: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": ({0: "N"},)}
        torch.onnx.export(Exported(self).eval(), (example,), path, external_data=False, verbose=False, **facts)

    def weights(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, tensor in self.averages.items():
            yield name, tensor.detach().cpu().contiguous().numpy()

    def slots(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for slot, tensors in self.optimizer_slots.items():
            for name, tensor in tensors.items():
                yield f"{slot}/{name}", tensor.detach().cpu().contiguous().numpy()

    def _batch(self, plan: StepPlan) -> tuple[Tensor, Tensor, Tensor]:
        """Augmented images (B, 3, 32, 32), targets (B, classes) and row keys (dropout layers, B) of a training step."""
        images, targets = self._gather("train", plan.indices)
        images = crop_and_flip(images, self._to_device(plan.rows), self._to_device(plan.columns), self.selections)
        if self.recipe.cutout:
            images = cut_out(images, self._to_device(plan.centres), self.squares, self.colour)
        return images, targets, self._to_device(plan.dropout.view(np.int32))

    def _gather(self, split: SplitName, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (B, 3, 32, 32) with values 0 … 255, and targets (B, classes)."""
        images, targets = self.splits[split]
        chosen = self._to_device(indices)
        return images[chosen].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format), targets[chosen]

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)


class Exported(nn.Module):
    """(N, 32, 32, 3) uint8 → (N, classes) logits."""

    def __init__(self, network: TorchNetwork) -> None:
        super().__init__()
        self.model = network.evaluated
        self.logits = partial(network.forward, keys=None, image_size=network.recipe.image_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images.permute(0, 3, 1, 2))


class AdaptiveAverage(nn.Module):
    """Adaptive average pooling of (B, C, side, side) to 6 × 6 as two small products: the native backward pass has no fixed order of sums on
    a GPU.  `sides`: all that there will be, whose matrices then are on the device."""

    def __init__(self, sides: Set[int]) -> None:
        super().__init__()
        for side in sides - {POOLED}:
            self.register_buffer(f"matrix_{side}", torch.from_numpy(pool_matrix(side, POOLED)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        if side == POOLED:
            return x
        matrix = self.get_buffer(f"matrix_{side}").to(x.dtype)
        return matrix @ x @ matrix.mT  # (B, C, 6, 6)


def build_model(architecture: Architecture, pooled_sides: Set[int]) -> nn.Module:
    """The modules of the table under torchvision's names, so that `named_parameters` are the canonical ones; `stages` runs them."""
    model = nn.ModuleDict({"features": nn.Sequential(), "classifier": nn.Sequential()})
    for layer in architecture.layers:
        part, _, name = layer.name.rpartition(".")
        model.get_submodule(part).add_module(name, build_module(layer, pooled_sides))
    return model


def build_module(layer: Layer, pooled_sides: Set[int]) -> nn.Module:
    """The module for one row of the table."""
    match layer.kind:
        case "conv":
            return nn.Conv2d(layer.in_shape[0], layer.out_shape[0], layer.kernel)
        case "dense":
            return nn.Linear(layer.in_shape[0], layer.out_shape[0])
        case "maxpool":
            return nn.MaxPool2d(layer.kernel, layer.stride)
        case "relu":
            return nn.ReLU()
        case "dropout":
            return nn.Dropout()
        case "avgpool":
            return AdaptiveAverage(pooled_sides)
        case "flatten":
            return nn.Flatten()


def walk(model: nn.Module, architecture: Architecture) -> Iterator[tuple[Layer, nn.Module]]:
    """Each row of the table with its module."""
    for layer in architecture.layers:
        yield layer, model.get_submodule(layer.name)


def apply(layer: Layer, module: nn.Module, x: Tensor) -> Tensor:
    """One layer, its float32 weights cast to the activations' type."""
    match module:
        case nn.Conv2d():
            before, after = layer.padding
            if before != after:
                x, before = F.pad(x, layer.padding * 2), 0
            return F.conv2d(x, module.weight.to(x.dtype), module.bias.to(x.dtype), layer.stride, before)
        case nn.Linear():
            return F.linear(x, module.weight.to(x.dtype), module.bias.to(x.dtype))
        case _:
            return module(x)


def crop_and_flip(images: Tensor, rows: Tensor, columns: Tensor, selections: Tensor) -> Tensor:
    """(B, 3, 32, 32) → the same shape.  The selections hold zeros and a one per row, so the products are exact."""
    return selections[rows].unsqueeze(1) @ images @ selections[columns].unsqueeze(1).mT


def cut_out(images: Tensor, centres: Tensor, squares: Tensor, colour: Tensor) -> Tensor:
    """(B, 3, 32, 32) → the same shape, with a square of one colour in each image."""
    rows, columns = squares[centres[0]], squares[centres[1]]
    hole = rows[:, None, :, None] * columns[:, None, None, :]  # (B, 1, 32, 32) zeros and ones, so that the products are exact
    return images * (1 - hole) + colour * hole


def normalize(images: Tensor, normalization: str) -> Tensor:
    """Pixel values 0 … 255 → about zero mean and unit deviation.  `per-image` is `tf.image.per_image_standardization`."""
    if normalization == "per-image":
        centred = images - images.mean((1, 2, 3), keepdim=True)
        deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
        return centred / deviation.clamp_min(images[0].numel() ** -0.5)
    mean, deviation = NORMALIZATION[normalization]
    red, green, blue = images.unbind(1)
    channels = [(plane - 255 * m) / (255 * d) for plane, m, d in zip((red, green, blue), mean, deviation, strict=True)]
    return torch.stack(channels, 1)


def drop(x: Tensor, row_keys: Tensor, column_keys: Tensor, rate: float) -> Tensor:
    """(B, features), the kept ones scaled by 1 / (1 - rate)."""
    return x * (keep_mask(row_keys, column_keys, rate).to(x.dtype) * (1 / (1 - rate)))


def keep_mask(row_keys: Tensor, column_keys: Tensor, rate: float) -> Tensor:
    """`job.core.dropout.keep_mask` in int32: a shift to the right drags the sign along, so the bits above are masked off."""
    x = row_keys[:, None] ^ column_keys[None, :]
    x ^= (x >> 16) & 0xFFFF
    x *= SIGNED_MULTIPLIERS[0]
    x ^= (x >> 15) & 0x1FFFF
    x *= SIGNED_MULTIPLIERS[1]
    x ^= (x >> 16) & 0xFFFF
    return ((x >> 8) & 0xFFFFFF) >= dropout.threshold(rate)


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean over the batch of Σ -t·log p, the targets mixed with `smoothing` of a uniform distribution."""
    targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
    return -(targets * F.log_softmax(logits, 1)).sum(1).mean()


def add(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    """a + b, one by one, in the memory of a."""
    torch._foreach_add_(a, b)
    return a


def laid_out_like(w: Tensor, g: Tensor) -> Tensor:
    """`g`, as torch gives it; a copy where its memory layout is not that of `w`, which the fused update takes for granted."""
    return g if g.stride() == w.stride() else torch.empty_like(w).copy_(g)


def update_groups(recipe: Recipe, names: Iterable[str], rate_factors: Mapping[str, float]) -> dict[tuple[float, float], list[str]]:
    """(factor on the learning rate, weight decay) → the parameters that are updated with them."""
    groups: dict[tuple[float, float], list[str]] = {}
    for name in names:
        decay = recipe.weight_decay if name.endswith(".weight") else 0.0
        groups.setdefault((rate_factors.get(name, 1.0), decay), []).append(name)
    return groups


def adam(
    recipe: Recipe, ws: list[Tensor], gs: list[Tensor], ms: list[Tensor], vs: list[Tensor], *, rate: float, decay: float, number: int
) -> None:
    """One step of Adam, torch's or Keras': `torch._foreach_…` is one kernel for all tensors on a GPU."""
    if decay:
        torch._foreach_add_(gs, ws, alpha=decay)
    torch._foreach_mul_(ms, recipe.beta1)
    torch._foreach_add_(ms, gs, alpha=1 - recipe.beta1)
    torch._foreach_mul_(vs, recipe.beta2)
    torch._foreach_addcmul_(vs, gs, gs, 1 - recipe.beta2)
    bias_correction1, bias_correction2_sqrt = 1 - recipe.beta1**number, (1 - recipe.beta2**number) ** 0.5
    divisors = torch._foreach_sqrt(vs)
    if recipe.optimizer == "adam":
        torch._foreach_div_(divisors, bias_correction2_sqrt)
    else:
        rate *= bias_correction2_sqrt
    torch._foreach_add_(divisors, recipe.epsilon)
    torch._foreach_addcdiv_(ws, ms, divisors, -rate / bias_correction1)


def clip(gradients: list[Tensor], max_norm: float) -> None:
    """Scale in place so that the global norm is at most `max_norm` (Pascanu et al. 2013, with 1e-6 added to the norm).

    Row by row: on CPUs `vector_norm` of millions of numbers adds them one after the other, and is off by 0.3 %."""
    rows = [torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) if g.ndim > 1 else g for g in gradients]
    norm = torch.linalg.vector_norm(torch.cat(rows))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_max(1))


ENGINE = TorchEngine
