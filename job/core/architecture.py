"""AlexNet as a table: one row per layer.  Both engines build the network from it, and `alexnet describe` prints it.

The network is the one-column AlexNet of Krizhevsky, "One weird trick for parallelizing convolutional neural
networks" (arXiv:1404.5997), with the channel counts and layer names of torchvision's `alexnet`.
ReLU comes after max-pool, not before: they commute exactly, gradients at ties included, and a quarter of the values is left.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal

Kind = Literal["conv", "relu", "maxpool", "avgpool", "flatten", "dropout", "dense"]
DropoutPosition = Literal["before", "after"]

CONV_CHANNELS = (64, 192, 384, 256, 256)
DENSE_FEATURES = (4096, 4096)
POOLED = 6
"""Side of the feature map before the first dense layer, for every image size."""
MIN_IMAGE_SIZE = 63
"""Side in pixels; of a smaller image nothing is left at the third max-pool."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One row of the table.  Shapes are (C, H, W) or (features,), without the batch."""

    name: str
    """torchvision's name, which is also the prefix of its tensors in a checkpoint"""
    kind: Kind
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    kernel: int = 0
    """side in pixels; 0 for a layer without one"""
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    """pixels before and after the map, the same for height and width"""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(O, I, H, W) for a convolution, (out, in) for a dense layer, () for the others."""
        if self.kind == "conv":
            return (self.out_shape[0], self.in_shape[0], self.kernel, self.kernel)
        if self.kind == "dense":
            return (self.out_shape[0], self.in_shape[0])
        return ()

    @property
    def fan_in(self) -> int:
        """Inputs of one output value."""
        return prod(self.weight_shape[1:])

    @property
    def fan_out(self) -> int:
        """Outputs that one input value contributes to, at stride 1."""
        return self.weight_shape[0] * prod(self.weight_shape[2:])

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return prod(self.weight_shape) + self.out_shape[0] if self.weight_shape else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of the forward pass of one image."""
        return prod(self.weight_shape) * prod(self.out_shape[1:]) if self.weight_shape else 0


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The layers in order, with the names and shapes of every parameter."""

    image_size: int
    classes: int
    layers: tuple[Layer, ...]

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name → canonical shape (OIHW, OI, O), in network order."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.weighted:
            shapes[f"{layer.name}.weight"] = layer.weight_shape
            shapes[f"{layer.name}.bias"] = layer.weight_shape[:1]
        return shapes

    @property
    def weighted(self) -> tuple[Layer, ...]:
        """The layers that have parameters."""
        return tuple(layer for layer in self.layers if layer.weight_shape)

    @property
    def dropouts(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind == "dropout")

    @property
    def pooled_side(self) -> int:
        """Of the feature map that adaptive pooling turns into POOLED × POOLED."""
        return next(layer.in_shape[1] for layer in self.layers if layer.kind == "avgpool")

    @property
    def head(self) -> Layer:
        """The last layer, which gives the logits."""
        return self.weighted[-1]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def flop(self) -> int:
        """Floating-point operations of a training step for one image: two for each multiply-accumulate of the forward pass, and twice as
        many backward (Kaplan et al. 2020, section 2.1), but none for a gradient of the image itself."""
        return 6 * self.macs - 2 * self.layers[0].macs


def alexnet(
    *,
    image_size: int = 224,
    width: float = 1.0,
    classes: int = 10,
    conv1_padding: Literal["torchvision", "same"] = "torchvision",
    dropout_position: DropoutPosition = "before",
) -> Architecture:
    """Build the table.  Raises ValueError for an image size below MIN_IMAGE_SIZE.

    `width` scales the channels and features of every hidden layer.  `conv1_padding="same"` pads the first convolution as TensorFlow's
    `same` does (output = ceil(input / 4)).  `dropout_position` puts dropout before each hidden dense layer, as torchvision does,
    or after it.
    """
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(f"image_size must be at least {MIN_IMAGE_SIZE}, received {image_size}")
    channels = [max(1, round(c * width)) for c in CONV_CHANNELS]
    features = [max(1, round(f * width)) for f in DENSE_FEATURES]
    table = _Table((3, image_size, image_size))

    first = same_padding(image_size, kernel=11, stride=4) if conv1_padding == "same" else (2, 2)
    table.conv("features.0", channels[0], kernel=11, stride=4, padding=first)
    table.pool("features.2").relu("features.1")
    table.conv("features.3", channels[1], kernel=5, padding=(2, 2))
    table.pool("features.5").relu("features.4")
    table.conv("features.6", channels[2], kernel=3, padding=(1, 1)).relu("features.7")
    table.conv("features.8", channels[3], kernel=3, padding=(1, 1)).relu("features.9")
    table.conv("features.10", channels[4], kernel=3, padding=(1, 1)).pool("features.12").relu("features.11")
    table.add("avgpool", "avgpool", (channels[4], POOLED, POOLED))
    table.add("flatten", "flatten", (channels[4] * POOLED * POOLED,))

    before = dropout_position == "before"
    if before:
        table.dropout("classifier.0")
    table.add("classifier.1", "dense", (features[0],)).relu("classifier.2").dropout("classifier.3")
    table.add("classifier.4", "dense", (features[1],)).relu("classifier.5")
    if not before:
        table.dropout("classifier.dropout")
    table.add("classifier.6", "dense", (classes,))
    return Architecture(image_size=image_size, classes=classes, layers=tuple(table.rows))


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) pixels of TensorFlow's `same` padding; an odd pixel goes after (tf.nn.convolution, "padding")."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _Table:
    """The rows so far; each call appends one, whose input is the last one's output."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.rows: list[Layer] = []

    def add(self, name: str, kind: Kind, out_shape: tuple[int, ...], **geometry: object) -> "_Table":
        self.rows.append(Layer(name=name, kind=kind, in_shape=self.shape, out_shape=out_shape, **geometry))  # type: ignore[arg-type]
        self.shape = out_shape
        return self

    def conv(self, name: str, channels: int, *, kernel: int, padding: tuple[int, int], stride: int = 1) -> "_Table":
        side = (self.shape[1] + sum(padding) - kernel) // stride + 1
        return self.add(name, "conv", (channels, side, side), kernel=kernel, stride=stride, padding=padding)

    def pool(self, name: str) -> "_Table":
        side = (self.shape[1] - 3) // 2 + 1
        return self.add(name, "maxpool", (self.shape[0], side, side), kernel=3, stride=2)

    def relu(self, name: str) -> "_Table":
        return self.add(name, "relu", self.shape)

    def dropout(self, name: str) -> "_Table":
        return self.add(name, "dropout", self.shape)
