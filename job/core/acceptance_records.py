"""What `alexnet accept` stores about one GPU: that the work was begun, the verdict, and checksums of every step.

Beside `job.core.records`, for the same readers and writers.  What a device does not tell is left out, never zero.
"""

from typing import Annotated, Literal, TypedDict

from job.core.identity_records import Code, Environment, Place
from job.core.records import Digest, RecipeValue
from job.core.resource_records import GpuIdentity, Health, PcieLink, Spread

ShortDigest = Annotated[str, "[0-9a-f]{16}"]
"""the first 16 hexadecimal digits of a SHA-256"""
Mode = Literal["bf16", "tf32", "fp32"]
Level = Literal["pass", "suspect", "fail"]


class Started(Code, Place):
    """started.json: which process was to examine which GPU.  Without a verdict beside it, it did not come to its end."""

    format: int
    """1"""
    engine: str
    """`torch` or `tensorflow`"""
    gpu: GpuIdentity
    """the GPU under test"""
    index: int | None
    """number of the pod in an Indexed Job (`JOB_COMPLETION_INDEX`); null outside of one"""
    of: int | None
    """pods that the Job shall have (`ALEXNET_COMPLETIONS`); null where the manifest does not tell it"""
    started: float
    """when, in seconds since 1970, by the store's clock"""


class Evidence(TypedDict):
    """What one check found."""

    check: str
    """name of the check"""
    level: Level
    """what it makes of the GPU"""
    what: str
    """one sentence, with the figures"""


class TensorDigests(TypedDict):
    """What one tensor was, over the intervals of a round."""

    name: str
    """`loss`, `weights/NAME` or `slots/SLOT/NAME`"""
    intervals: list[ShortDigest]
    """for each interval, over the checksums of the tensor after each of its steps; of `loss`, over the losses themselves"""


class Operation(TypedDict):
    """What one operation of a step gave, from the same weights on every GPU."""

    name: str
    """`inputs`, `masks/LAYER`, `activations/LAYER` of the first 8 images, `logits`, `gradients/NAME`"""
    digest: ShortDigest
    """of its numbers"""


class Deviation(TypedDict):
    """Where a round first parted from what most rounds of this GPU gave."""

    round: int
    """from 1, among the rounds of its precision"""
    step: int
    """first optimiser step that parted, from 1"""
    place: str
    """`forward`, `backward` or `update`: the part of the step that parted first; `state`: weights or slots that no step had changed"""
    tensor: str
    """that names the place, as an operation or a tensor is named; `loss` or `logits` where the forward pass is all that is known"""
    tensors: int
    """weights and slots that differed after that step"""
    again: bool
    """true: it parted again when the round was taken once more under a trace, which then named the tensor"""


class ModeResult(TypedDict):
    """All rounds in one precision."""

    mode: Mode
    """`bf16`, `tf32` (float32 whose products are rounded to TF32) or `fp32`"""
    rounds: int
    """that were done, each from the same initial state"""
    steps: int
    """optimiser steps of a round"""
    interval: int
    """steps of an interval"""
    digest: Digest
    """SHA-256 over `tensors`: what most of the rounds gave"""
    state_sha256: Digest
    """SHA-256 over weights and slots, in canonical layout, after the last step of the first round"""
    tensors: list[TensorDigests]
    """of the round that most rounds were equal to, in network order, `loss` first"""
    traced: int
    """step whose `operations` are recorded, from 1"""
    operations: list[Operation]
    """of that step, before the first round, in the order of computation"""
    deviations: list[Deviation]
    """the first ten; empty: every round gave the same"""
    deviant_rounds: int
    """rounds that parted"""
    last_loss: float | None
    """of the last step, in nats; null: not finite"""
    images_per_second: Spread
    """over the rounds without the first, in which things are compiled and chosen; with it where there is only one"""


class LoadFigures(TypedDict, total=False):
    """While the rounds were running: over samples of one second."""

    seconds: float
    """that the rounds took"""
    power_watts: Spread
    """in W"""
    energy_joules: float
    """in J"""
    temperature_celsius: Spread
    """in °C"""
    sm_clock_mhz: Spread
    """in MHz"""
    memory_clock_mhz: Spread
    """in MHz"""
    utilization_percent: Spread
    """share of the time in which a kernel ran, in %"""
    throttled: dict[str, float]
    """reason → share of the samples; empty: never"""
    pcie: PcieLink
    """in the middle of a round"""
    container_throttled_seconds: float
    """in which threads wanted to run and the quota of CPU time did not let them"""
    container_cpu_limit_cores: float
    """quota of CPU time, in cores; absent: none"""
    lost: bool
    """true: it stopped answering"""


class Bandwidth(TypedDict):
    """Copies of one block; on a CPU all three are copies of host memory."""

    bytes: int
    """size of the block"""
    host_to_device_bytes_per_second: float
    """the best of some copies"""
    device_to_host_bytes_per_second: float
    """the best of some copies"""
    device_bytes_per_second: float
    """the best of some copies within the device, bytes read and written"""


class MemoryTest(TypedDict):
    """Patterns that were written to free memory of the device and read again."""

    bytes: int
    """that were written"""
    patterns: int
    """that each word held, one after the other"""
    wrong_words: int
    """32-bit words that came back otherwise"""


class Verdict(Started):
    """verdict.json: what is to be thought of one GPU, and why.  Written once, last."""

    verdict: Level
    """`fail`: it computed or kept something wrongly, or broke; `suspect`: something that a person should look at"""
    evidence: list[Evidence]
    """of every check, the worst first"""
    not_tested: list[str]
    """what this verdict says nothing about, a sentence each"""
    written: float
    """when, in seconds since 1970, by the store's clock"""
    seconds: float
    """that it took"""
    environment: Environment | None
    """of the engine; null where it did not start"""
    group: dict[str, str]
    """what the numbers may depend on: GPUs whose groups and work are equal must give equal digests; empty where the engine did not start"""
    work: dict[str, RecipeValue]
    """what was computed: the recipe, seed, steps, data"""
    reproducible: bool
    """false: an operation without a deterministic kernel was used, so the digests prove nothing"""
    nondeterministic: list[str]
    """those operations"""
    modes: list[ModeResult]
    """in the order of their rounds; empty where the process broke before the end"""
    before: Health
    """before the first round"""
    after: Health
    """after the last"""
    load: LoadFigures
    """meanwhile"""
    bandwidth: Bandwidth | None
    """null: not come to"""
    memory: MemoryTest | None
    """null: not come to"""


class StepSums(TypedDict):
    """The checksums of one precision."""

    mode: Mode
    """which"""
    losses: list[str]
    """of each step, as C's `%a` writes it: every bit"""
    names: list[str]
    """`weights/NAME` and `slots/SLOT/NAME`, in network order"""
    sums: list[list[str]]
    """for each step, of each name: the sum of the tensor's 32-bit words modulo 2⁶⁴, in hexadecimal"""


class Steps(TypedDict):
    """steps.json: what every step left, by which the first one that parted can be named."""

    format: int
    """1"""
    modes: list[StepSums]
    """of the round that most rounds were equal to"""
