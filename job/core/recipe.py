"""What is trained, and how: one frozen record that every other part reads and that is stored with the run.

A recipe comes from a TOML file of flat `key = value` lines; flags and `ALEXNET_*` variables override single keys.  Everything
that changes the numbers of a run is in here, but the seed and the data.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from job.core.architecture import MIN_IMAGE_SIZE, Architecture, alexnet
from job.core.records import RecipeValue

Precision = Literal["auto", "bf16", "fp32", "fp64"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Raises ValueError, naming the field, the value and what is allowed."""

    name: str = "default"
    """what the run is called in tables"""
    epochs: int = 20
    """passes over the training set"""
    batch_size: int = 128
    """images of one optimiser step, over all devices"""
    image_size: int = 224
    """side in pixels to which the 32-pixel images are resized on the device"""
    width: float = 1.0
    """scales every hidden layer; 0.0625 leaves 1/16 of the channels, for tests"""
    precision: Precision = "auto"
    """of activations and gradients; weights stay float32. `auto`: bf16 where a GPU has it, else fp32"""
    validation: int = 0
    """training images held out, in the proportions of the classes; the best epoch is chosen on them"""

    crop: bool = True
    """pad by 4 with reflection and crop 32 pixels at random"""
    flip: bool = True
    """mirror half of the images"""
    normalization: Literal["cifar10", "half", "imagenet", "per-image"] = "cifar10"
    """subtract a mean and divide by a deviation, before resizing"""

    conv1_padding: Literal["torchvision", "same"] = "torchvision"
    """2 pixels on each side, or what TensorFlow's `same` gives at stride 4"""
    dropout: float = 0.5
    """share of the features that are dropped"""
    dropout_position: Literal["before", "after"] = "before"
    """of each hidden dense layer"""
    initial_weights: Literal["he-uniform", "torch", "keras"] = "he-uniform"
    """distribution: He with a small last layer, or a framework's default"""
    pretrained: bool = False
    """start from `--init-from`, with a new last layer"""
    pretrained_rate: float = 0.1
    """factor on the learning rate of layers that came from `--init-from`"""

    optimizer: Literal["sgd", "adam", "adam-keras"] = "sgd"
    """SGD with Nesterov momentum, Adam as torch.optim writes it, Adam as Keras writes it"""
    learning_rate: float = 0.03
    """at its peak"""
    momentum: float = 0.9
    """SGD's"""
    nesterov: bool = True
    """SGD's"""
    beta1: float = 0.9
    """Adam's, first moment"""
    beta2: float = 0.999
    """Adam's, second moment"""
    epsilon: float = 1e-8
    """Adam's"""
    weight_decay: float = 5e-4
    """added to the gradient times the weight, for weights only, never biases"""
    clip_norm: float = 2.0
    """largest global norm of the gradient; 0 = no clipping"""
    label_smoothing: float = 0.1
    """share of the target spread evenly over the classes"""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """how the learning rate falls to zero after the warm-up"""
    warmup: float = 0.05
    """share of all steps in which the rate rises"""

    truncated_test: bool = False
    """also store the accuracy over whole test batches only, a mistake of the original Keras program"""

    def __post_init__(self) -> None:
        for field, expected in get_type_hints(type(self)).items():
            object.__setattr__(self, field, _typed(field, getattr(self, field), expected))
        positive, fraction = "a whole number of at least 1", "a number from 0 to 1"
        self._require("epochs", self.epochs >= 1, positive)
        self._require("batch_size", self.batch_size >= 1, positive)
        self._require("image_size", MIN_IMAGE_SIZE <= self.image_size <= 1024, f"a whole number from {MIN_IMAGE_SIZE} to 1024")
        self._require("width", 0 < self.width <= 8, "a number above 0, at most 8")
        self._require("validation", self.validation >= 0, "a whole number of at least 0")
        self._require("dropout", 0 <= self.dropout < 1, "a number from 0, below 1")
        self._require("learning_rate", self.learning_rate > 0, "a number above 0")
        self._require("epsilon", self.epsilon > 0, "a number above 0")
        for field in ("momentum", "beta1", "beta2", "label_smoothing"):
            self._require(field, 0 <= getattr(self, field) < 1, "a number from 0, below 1")
        for field in ("warmup", "pretrained_rate"):
            self._require(field, 0 <= getattr(self, field) <= 1, fraction)
        for field in ("weight_decay", "clip_norm"):
            self._require(field, getattr(self, field) >= 0, "a number of at least 0")
        self._require("name", bool(self.name) and self.name.isprintable() and len(self.name) <= 80, "1 to 80 printable characters")

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{field} must be {expected}. Received: {field} = {getattr(self, field)!r}")

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """A copy with `values`, each either typed or a string from a command line.  Unknown keys raise ValueError."""
        known = [f.name for f in fields(self)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ValueError(f"{key!r} is not a key of a recipe.{hint} Allowed: {', '.join(known)}")
        return replace(self, **values)

    def architecture(self, classes: int = 10) -> Architecture:
        return alexnet(
            image_size=self.image_size,
            width=self.width,
            classes=classes,
            conv1_padding=self.conv1_padding,
            dropout_position=self.dropout_position,
        )

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the optimiser's tensors, one of each for every parameter."""
        return ("momentum",) if self.optimizer == "sgd" else ("first_moment", "second_moment")

    @property
    def dtype(self) -> Literal["float32", "float64"]:
        """In which weights and the optimiser's tensors are kept; bf16 only computes in fewer bits."""
        return "float64" if self.precision == "fp64" else "float32"

    def as_dict(self) -> dict[str, RecipeValue]:
        return asdict(self)


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
