"""`python -m tools.communication`: what several GPUs spend on exchanging gradients, and from which batch they pay; computed, not measured.

A step of W workers takes what one worker takes for its share of the batch (tools/roofline.py), and then the exchange: bytes at the link's
bandwidth, the two not overlapping.  Latencies are left out: some ten microseconds a round, beside 0.5 ms and more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from job.core.architecture import Architecture, alexnet
from tools.roofline import BF16, DEVICES, FP32, Device, parts

WORKERS = (2, 4, 8)
BATCHES = tuple(2**power for power in range(3, 18))
"""of the whole run"""


@dataclass(frozen=True)
class Link:
    """Published peak."""

    name: str
    bandwidth: float
    """bytes per second in each direction, of one worker"""


PCIE = Link("PCIe 4.0 x16", 16e9 * 16 * 128 / 130 / 8)
NVLINK3, NVLINK4 = Link("NVLink 3", 300e9), Link("NVLink 4", 450e9)
ETHERNET = tuple(Link(f"{gigabits} Gb/s", gigabits * 1e9 / 8) for gigabits in (100, 400))
LINKS = (PCIE, NVLINK3, NVLINK4, *ETHERNET)
"""Sources: docs/scaling.md, "What communication costs\""""
RTX_3060, A100, H100 = DEVICES
MACHINES = ((RTX_3060, PCIE), *((A100, link) for link in (NVLINK3, PCIE, *ETHERNET)), *((H100, link) for link in (NVLINK4, *ETHERNET)))


def rounds(workers: int) -> int:
    """Of pairs: log2."""
    return workers.bit_length() - 1


def pairs(workers: int, gradients: float) -> float:
    """Bytes that a worker sends where it adds its sum to that of another one, log2(W) times: one order of sums for any W."""
    return rounds(workers) * gradients


def pairs_bf16_first(workers: int, gradients: float) -> float:
    """The same in precision bf16, where the gradients of one shard are bf16 numbers: half of the bytes lose nothing in the first round."""
    return pairs(workers, gradients) - gradients * (1 - BF16 / FP32)


def ring(workers: int, gradients: float) -> float:
    """Bytes that a worker sends in a ring all-reduce, whose order of sums depends on W (Patarasuk and Yuan 2009)."""
    return 2 * gradients * (workers - 1) / workers


WAYS = {"pairs": pairs, "pairs, the first in bf16": pairs_bf16_first, "ring": ring}


def step(architecture: Architecture, batch: int, device: Device, shards: int = 1) -> float:
    """Seconds of one worker's step of so many shards: each has passes and casts of its own, and is added to the rest."""
    once = 0.0
    for part in parts(architecture, batch // shards):
        own = shards if part.layer != "all" or "bf16" in part.what else 1
        once += own * part.seconds(device)
    return once + (shards - 1) * 3 * FP32 * architecture.parameters / device.bandwidth


def together(architecture: Architecture, batch: int, device: Device, link: Link, workers: int) -> float:
    """Seconds of a step of one shard on each worker."""
    return step(architecture, batch // workers, device) + pairs(workers, FP32 * architecture.parameters) / link.bandwidth


def pays_from(architecture: Architecture, device: Device, link: Link, workers: int, speed: float) -> int | None:
    """The least batch, a power of two, at which so many workers are more than `speed` times as fast as one; None: at none of BATCHES."""
    for batch in BATCHES:
        if batch >= workers and step(architecture, batch, device) > speed * together(architecture, batch, device, link, workers):
            return batch
    return None


def hideable(architecture: Architecture, batch: int, device: Device) -> tuple[float, float]:
    """(seconds of the convolutions' backward pass, which come last; share of the gradients that are there before): what overlap can use."""
    last = [part for part in parts(architecture, batch) if part.layer.startswith("features") and part.what != "forward"]
    dense = sum(layer.parameters for layer in architecture.layers if layer.kind == "dense")
    return sum(part.seconds(device) for part in last), dense / architecture.parameters


def exchange_table(gradients: float) -> Iterator[list[str]]:
    yield ["W", "way", "MB", *(link.name for link in LINKS)]
    for workers in WORKERS:
        for name, way in WAYS.items():
            sent = way(workers, gradients)
            yield [str(workers), name, f"{sent / 1e6:.0f}", *(f"{1e3 * sent / link.bandwidth:.2f}" for link in LINKS)]


def gain_table(architecture: Architecture) -> Iterator[list[str]]:
    yield ["GPU", "link", *(f"batch {batch}" for batch in (128, 1024, 8192)), "faster than one from batch", "80 % of W from batch"]
    for device, link in MACHINES:
        cells = []
        for batch in (128, 1024, 8192):
            alone = step(architecture, batch, device)
            cells.append(" / ".join(f"{alone / together(architecture, batch, device, link, workers):.1f}" for workers in WORKERS))
        for share in (1.0, 0.8):
            speeds = [max(1.0, workers * share) if share < 1 else 1.0 for workers in WORKERS]
            found = [pays_from(architecture, device, link, w, speed) for w, speed in zip(WORKERS, speeds, strict=True)]
            cells.append(" / ".join("–" if batch is None else f"{batch:,}" for batch in found))
        yield [device.name, link.name, *cells]


def shard_table(architecture: Architecture) -> Iterator[list[str]]:
    yield ["GPU", *(f"S = {shards}" for shards in (1, *WORKERS))]
    for device in DEVICES:
        times = [step(architecture, 128, device, shards) for shards in (1, *WORKERS)]
        yield [device.name, *(f"{1e3 * time:.2f} ms" + (f" ({time / times[0]:.2f})" if n else "") for n, time in enumerate(times))]


def overlap_table(architecture: Architecture) -> Iterator[list[str]]:
    yield ["images of a GPU", *(device.name for device in DEVICES), "share of the gradients"]
    for batch in (64, 128, 512):
        found = [hideable(architecture, batch, device) for device in DEVICES]
        yield [str(batch), *(f"{1e3 * seconds:.2f} ms" for seconds, _ in found), f"{found[0][1]:.0%}"]


def table(rows: Iterator[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def main() -> None:
    architecture = alexnet()
    gradients = float(FP32 * architecture.parameters)
    print(f"Computed from published peaks: {architecture.parameters:,} parameters, {gradients / 1e6:.0f} MB of gradients in fp32.\n")
    print(f"Sent by each of W workers in a step, and milliseconds:\n\n{table(exchange_table(gradients))}\n")
    print(f"Images/s of W = 2 / 4 / 8 GPUs ÷ those of one, bf16, S = W, pairs in fp32:\n\n{table(gain_table(architecture))}\n")
    print(f"One GPU, batch 128, S shards:\n\n{table(shard_table(architecture))}\n")
    print(f"Backward pass of the convolutions, behind which the dense layers' gradients can hide:\n\n{table(overlap_table(architecture))}")


if __name__ == "__main__":
    main()
