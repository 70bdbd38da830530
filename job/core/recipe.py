"""The recipe: what is trained and how, as one frozen record that every other part reads and that is stored with the run.

A recipe comes from a TOML file of flat `key = value` lines; flags and `ALEXNET_*` variables override single keys.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from itertools import pairwise
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from job.core.architecture import MIN_IMAGE_SIZE, Architecture, alexnet
from job.core.records import RecipeValue

Precision = Literal["auto", "bf16", "fp32", "fp64"]
ALSO_CALLED = {
    **dict.fromkeys(("lr", "lr0", "rate"), "learning_rate"),
    **dict.fromkeys(("bs", "batch"), "batch_size"),
    **dict.fromkeys(("wd", "decay", "l2"), "weight_decay"),
    **dict.fromkeys(("size", "imgsz", "resolution"), "image_size"),
    **dict.fromkeys(("image_sizes", "sizes", "progressive"), "progressive_resizing"),
    **dict.fromkeys(("max_epochs", "num_epochs"), "epochs"),
    **dict.fromkeys(("scheduler", "lr_schedule"), "schedule"),
    **dict.fromkeys(("grad_clip", "gradient_clip_val", "clipnorm"), "clip_norm"),
    **dict.fromkeys(("dtype", "amp"), "precision"),
    "eps": "epsilon",
    **dict.fromkeys(("ema", "ema_momentum", "model_ema_decay"), "ema_decay"),
    **dict.fromkeys(("val", "val_split"), "validation"),
    **dict.fromkeys(("betas", "beta_1"), "beta1"),
}
"""what other programs call a key → the key, for hints"""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting that changes the results of a run, but the seed and the data.

    Raises ValueError that names the field, the value received and what is allowed."""

    name: str = "default"
    """Name of the recipe in logs, tables and reports, 1 to 80 printable characters. Give a changed recipe a name of its own."""
    epochs: int = 20
    """Passes over the training set, at least 1. More epochs take proportionally longer and stretch the schedule over all of them."""
    batch_size: int = 128
    """Images of one optimiser step, at least 1. Lower it when the device runs out of memory; scale `learning_rate` with it."""
    image_size: int = 224
    """Side in pixels, 63 to 1024, to which the 32-pixel images are resized on the device. A smaller size is faster and less accurate."""
    progressive_resizing: str = "none"
    """Smaller sizes to begin the training with, `PIXELS:SHARE` of the epochs in ascending order, or `none`: with `96:0.5 160:0.25` half of
    the epochs have images of 96 pixels, the next quarter of 160, the rest of `image_size`, as tests always have. Sizes from `image_size`
    on are left out. Set it to save time."""
    width: float = 1.0
    """Factor on the channels and features of every hidden layer, above 0, at most 8. Lower it for quick trials, to 0.0625, say."""
    precision: Precision = "auto"
    """Number format of activations and their gradients; weights stay float32, or float64 with `fp64`. `auto` takes bf16 where the GPU
    or the CPU computes in it, else fp32. Choose `fp32` to compare with another device, `fp64` for traces."""
    validation: int = 0
    """Training images held out for validation, with the class proportions of the training set, at least 0. Set it, to 5000,
    say, to test the model of the best epoch instead of the last one."""

    crop: bool = True
    """Whether to pad images by 4 pixels (reflected) and crop 32 × 32 at random in training. Turn it off to reproduce a
    program that does not crop."""
    flip: bool = True
    """Whether to mirror each training image left to right with probability 1/2. Turn it off where that changes the class, as
    for digits."""
    cutout: int = 0
    """Side in pixels, 0 (off) to 32, of a square in each training image that gets the mean colour, at a random place and partly outside
    of the image. Turn it on, with 8 to 16, against overfitting."""
    normalization: Literal["cifar10", "half", "imagenet", "per-image"] = "cifar10"
    """Mean and standard deviation by which pixel values are normalised: those of CIFAR-10, 0.5 and 0.5, those of ImageNet, or each
    image's own. Choose `imagenet` for weights that were pretrained on it."""

    conv1_padding: Literal["torchvision", "same"] = "torchvision"
    """Padding of the first convolution: 2 pixels on each side, or TensorFlow's `same`. Choose `same` to match a Keras program."""
    dropout: float = 0.5
    """Probability that a feature is dropped, 0 (no dropout) to below 1. Raise it against overfitting, lower it for small networks."""
    dropout_position: Literal["before", "after"] = "before"
    """Dropout before each hidden dense layer, as in torchvision, or after it, as in many Keras programs. Choose `after` to match such
    a program."""
    initial_weights: Literal["he-uniform", "torch", "keras"] = "he-uniform"
    """Distribution of the initial weights: He's uniform one with a small last layer, or the default of torch or Keras. Change it to
    reproduce a program in that framework."""
    pretrained: bool = False
    """Whether to start from the weights that `--init-from` names, with a new last layer. Turn it on for fine-tuning."""
    pretrained_rate: float = 0.1
    """Factor on the learning rate of the layers from `--init-from`, 0 (frozen) to 1. Applies only if `pretrained` is true."""

    optimizer: Literal["sgd", "adam", "adam-keras"] = "sgd"
    """Update rule: SGD with momentum, Adam of torch.optim, or Adam of Keras (they differ in where `epsilon` is added). Adam needs a
    smaller `learning_rate`, such as 0.001."""
    learning_rate: float = 0.03
    """Peak learning rate, after the warm-up, above 0. Lower it if the loss diverges or stays at that of a guess."""
    momentum: float = 0.9
    """Decay per step of SGD's sum of gradients, 0 (plain SGD) to below 1. Lower it if the loss oscillates; ignored by Adam."""
    nesterov: bool = True
    """Whether SGD uses Nesterov's momentum instead of classical momentum. Ignored by Adam."""
    beta1: float = 0.9
    """Decay per step of Adam's mean of gradients, 0 to below 1. Lower it to react faster; ignored by SGD."""
    beta2: float = 0.999
    """Decay per step of Adam's mean of squared gradients, 0 to below 1. Lower it if gradients change scale quickly; ignored by SGD."""
    epsilon: float = 1e-8
    """Constant above 0 in the denominator of Adam's step. Keras' default is 1e-7, PyTorch's 1e-8; ignored by SGD."""
    weight_decay: float = 5e-4
    """Factor, at least 0, of each weight that is added to its gradient; biases are left out. Raise it against overfitting."""
    clip_norm: float = 2.0
    """Largest global norm of the gradient; larger ones are scaled down to it, and 0 turns clipping off. Lower it if the loss diverges."""
    ema_decay: float = 0.0
    """Decay per step of an exponential moving average of the weights, 0 (off) to below 1. The average is what is tested and stored as the
    model. Turn it on, with 0.999, against the noise of the last steps."""
    label_smoothing: float = 0.1
    """Share of each target, 0 to below 1, spread evenly over all classes. Raise it against overconfident predictions."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate changes after the warm-up: it falls to zero linearly or as half a cosine, or stays constant. Choose
    `constant` to reproduce a program without a schedule."""
    warmup: float = 0.05
    """Share of all steps, 0 to 1, over which the learning rate rises linearly to its peak. Raise it if training diverges early."""

    truncated_test: bool = False
    """Whether to store, in addition, the accuracy over whole test batches only. Use it only to reproduce the original Keras program, which
    dropped the last, incomplete batch."""

    def __post_init__(self) -> None:
        for field, expected in get_type_hints(type(self)).items():
            object.__setattr__(self, field, _typed(field, getattr(self, field), expected))
        positive, fraction = "a whole number of at least 1", "a number from 0 to 1"
        self._require("epochs", self.epochs >= 1, positive)
        self._require("batch_size", self.batch_size >= 1, positive)
        self._require("image_size", MIN_IMAGE_SIZE <= self.image_size <= 1024, f"a whole number from {MIN_IMAGE_SIZE} to 1024")
        self._check_smaller_sizes()
        self._require("width", 0 < self.width <= 8, "a number above 0, at most 8")
        self._require("validation", self.validation >= 0, "a whole number of at least 0")
        self._require("cutout", 0 <= self.cutout <= 32, "a whole number from 0 to 32")
        self._require("dropout", 0 <= self.dropout < 1, "a number from 0, below 1")
        self._require("learning_rate", self.learning_rate > 0, "a number above 0")
        self._require("epsilon", self.epsilon > 0, "a number above 0")
        for field in ("momentum", "beta1", "beta2", "ema_decay", "label_smoothing"):
            self._require(field, 0 <= getattr(self, field) < 1, "a number from 0, below 1")
        for field in ("warmup", "pretrained_rate"):
            self._require(field, 0 <= getattr(self, field) <= 1, fraction)
        for field in ("weight_decay", "clip_norm"):
            self._require(field, getattr(self, field) >= 0, "a number of at least 0")
        self._require("name", bool(self.name) and self.name.isprintable() and len(self.name) <= 80, "1 to 80 printable characters")

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{field} must be {expected}. Received: {field} = {getattr(self, field)!r}")

    def _check_smaller_sizes(self) -> None:
        def require(holds: bool, expected: str) -> None:
            self._require("progressive_resizing", holds, f"none, or PIXELS:SHARE {expected}")

        pair = r"[1-9][0-9]{0,3}:0\.[0-9]{1,6}"
        well_formed = re.fullmatch(f"none|{pair}( {pair})*", self.progressive_resizing)
        require(bool(well_formed), "with a blank between several, such as '96:0.5 160:0.25'")
        sizes, shares = [size for size, _ in self._sizes], [share for _, share in self._sizes]
        ascending = all(one < other for one, other in pairwise((MIN_IMAGE_SIZE - 1, *sizes)))
        require(ascending, f"with ascending sizes from {MIN_IMAGE_SIZE}")
        require(all(shares) and sum(shares) < 1, "with shares above 0 that add up to less than 1")

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """A copy with `values`, each either typed or a string from a command line.  Unknown keys raise ValueError."""
        for key in values:
            if key not in KEYS:
                near = [ALSO_CALLED[key.lower()]] if key.lower() in ALSO_CALLED else difflib.get_close_matches(key, KEYS, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"{key!r} is not a key of a recipe.{hint} Allowed: {', '.join(KEYS)}")
        return replace(self, **values)

    def architecture(self, classes: int = 10, image_size: int | None = None) -> Architecture:
        """For images of the recipe's own size, or of another: the parameters are the same."""
        return alexnet(
            image_size=image_size or self.image_size,
            width=self.width,
            classes=classes,
            conv1_padding=self.conv1_padding,
            dropout_position=self.dropout_position,
        )

    @property
    def smaller_sizes(self) -> tuple[tuple[int, Fraction], ...]:
        """(side in pixels, share of the epochs) of each part of the training before the one at `image_size`, in order."""
        return tuple((size, share) for size, share in self._sizes if size < self.image_size)

    @property
    def _sizes(self) -> tuple[tuple[int, Fraction], ...]:
        """As they are written."""
        pairs = () if self.progressive_resizing == "none" else self.progressive_resizing.split()
        return tuple((int(pixels), Fraction(share)) for pixels, share in (pair.split(":") for pair in pairs))

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Every side in pixels that a training has, in order."""
        return (*(size for size, _ in self.smaller_sizes), self.image_size)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the optimiser's state tensors; each parameter has one of each."""
        return (*self.update_slots, "trained") if self.ema_decay else self.update_slots

    @property
    def update_slots(self) -> tuple[str, ...]:
        """Those of the update rule, which begin with zeros.  `trained` is the weight itself, where the model holds its average."""
        return ("momentum",) if self.optimizer == "sgd" else ("first_moment", "second_moment")

    @property
    def dtype(self) -> Literal["float32", "float64"]:
        """Of the stored weights and optimiser state; under bf16 only activations and gradients have fewer bits."""
        return "float64" if self.precision == "fp64" else "float32"

    def as_dict(self) -> dict[str, RecipeValue]:
        return asdict(self)


KEYS = tuple(field.name for field in fields(Recipe))
"""in the order of the class"""


def from_toml(text: str, source: str) -> Recipe:
    """Parse a recipe file.  Raises ValueError that names `source`."""
    try:
        return Recipe().with_values(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ValueError(f"recipe {source}: {error}") from None


def to_toml(recipe: Recipe) -> str:
    """The recipe as a file that `from_toml` reads back."""
    import json

    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.as_dict().items())


def completed(recorded: Mapping[str, RecipeValue]) -> dict[str, RecipeValue]:
    """A recorded recipe with the keys that an older version did not know, whose defaults are what it did."""
    return {**Recipe().as_dict(), **recorded}


def differences(mine: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """One line for each key in which two recorded recipes differ."""
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return [f"{key}: {theirs.get(key)!r} stored, {mine.get(key)!r} asked for" for key in keys if mine.get(key) != theirs.get(key)]


def _typed(field: str, value: Any, expected: Any) -> Any:
    """`value` as the field's type; strings come from the command line and the environment."""
    if get_origin(expected) is Literal:
        if value not in get_args(expected):
            raise ValueError(f"{field} must be one of {', '.join(get_args(expected))}. Received: {field} = {value!r}")
        return value
    if expected is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        value = words.get(value.lower(), value) if isinstance(value, str) else value
        if not isinstance(value, bool):
            raise ValueError(f"{field} must be true or false. Received: {field} = {value!r}")
        return value
    if expected is str:
        if not isinstance(value, str):
            raise ValueError(f"{field} must be a string. Received: {field} = {value!r}")
        return value
    kind = "a whole number" if expected is int else "a number"
    try:
        number = expected(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or (expected is int and not isinstance(number, int)):
        raise ValueError(f"{field} must be {kind}. Received: {field} = {value!r}")
    if not isfinite(number):
        raise ValueError(f"{field} must be a finite number. Received: {field} = {value!r}")
    return expected(number)
