"""`python -m tools.roofline`: what a training step must at least take on three GPUs, computed from the network's table; nothing is run.

Each part of the step takes the longer of its FLOPs at the device's peak and its bytes at the device's bandwidth.  Activations, weights and
gradients pass the memory once per operation in bf16, parameters and momentum in float32; nothing stays in a cache from one to the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from job.core.architecture import Architecture, Layer, alexnet

BATCH = 128
BF16, FP32 = 2, 4


@dataclass(frozen=True)
class Device:
    """Published peaks."""

    name: str
    flops: float
    """dense bf16 products, added up in float32, per second"""
    bandwidth: float
    """bytes of device memory per second"""


DEVICES = (
    Device("RTX 3060", 25.5e12, 360e9),
    Device("A100 80 GB", 312e12, 2039e9),
    Device("H100 SXM", 989e12, 3350e9),
)
"""Sources: docs/performance.md, "Roofline\""""


@dataclass(frozen=True)
class Part:
    """One row: what is computed, its floating-point operations and the bytes that it moves."""

    layer: str
    what: str
    flops: float
    moved: float

    def seconds(self, device: Device) -> float:
        return max(self.flops / device.flops, self.moved / device.bandwidth)


def parts(architecture: Architecture, batch: int) -> Iterator[Part]:
    """Of one step with momentum, weight decay and clipping."""
    for position, layer in enumerate(architecture.layers):
        if layer.kind in ("avgpool", "flatten"):
            continue
        moved = activations(layer, batch)
        weights = BF16 * layer.parameters
        flops = 2.0 * layer.macs * batch
        yield Part(layer.name, "forward", flops, sum(moved) + weights)
        if position:  # the images need no gradient
            yield Part(layer.name, "backward", flops, sum(moved) + (weights or moved[1]))
        if weights:
            yield Part(layer.name, "weight gradient", flops, sum(moved) + weights)
    count = architecture.parameters
    yield Part("all", "weights to bf16, gradients back", 0, 2 * count * (FP32 + BF16))
    yield Part("all", "norm and scaling for clipping", 3.0 * count, 3 * count * FP32)
    yield Part("all", "update in one pass", 6.0 * count, 5 * count * FP32)


def activations(layer: Layer, batch: int) -> tuple[int, int]:
    """Bytes of (input, output)."""
    return BF16 * batch * prod(layer.in_shape), BF16 * batch * prod(layer.out_shape)


def main() -> None:
    rows = list(parts(alexnet(), BATCH))
    print(f"Computed: default network, batch {BATCH}, bf16.  Milliseconds on each device; m: bound by memory.\n")
    print("| layer | part | GFLOP | MB | " + " | ".join(device.name for device in DEVICES) + " |")
    print("|---|---|---|---|" + "---|" * len(DEVICES))
    for row in rows:
        cells = [f"{1e3 * row.seconds(d):.3f}{' m' if row.moved / d.bandwidth > row.flops / d.flops else ''}" for d in DEVICES]
        print(f"| {row.layer} | {row.what} | {row.flops / 1e9:.1f} | {row.moved / 1e6:.0f} | " + " | ".join(cells) + " |")
    totals = [sum(row.seconds(device) for row in rows) for device in DEVICES]
    print("| **step** | | " + f"{sum(r.flops for r in rows) / 1e9:.0f} | {sum(r.moved for r in rows) / 1e6:.0f} | ", end="")
    print(" | ".join(f"**{1e3 * total:.2f}**" for total in totals) + " |")
    for label, chosen in (
        ("casts, clipping and update", [row for row in rows if row.layer == "all"]),
        ("convolutions and dense layers", [row for row in rows if row.layer != "all" and row.flops]),
    ):
        shares = [sum(row.seconds(d) for row in chosen) / total for d, total in zip(DEVICES, totals, strict=True)]
        print(f"| share: {label} | | | | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    for size in (160, 128, 96):
        smaller = [sum(row.seconds(device) for row in parts(alexnet(image_size=size), BATCH)) for device in DEVICES]
        print(f"| step at {size} px | | | | " + " | ".join(f"{1e3 * total:.2f}" for total in smaller) + " |")
    print("| images per second at most | | | | " + " | ".join(f"{BATCH / total:,.0f}" for total in totals) + " |")


if __name__ == "__main__":
    main()
