"""Every object that a run stores, field by field: the one place that names them, for who writes them and who reads them.

A key that is renamed here fails `mypy` in both.  What is stored about the machine: `job.core.resource_records`; about who computed:
`job.core.identity_records`.  docs/formats.md is drawn from these files: the docstring under a field says what it is and in which unit.
Shares and accuracies are numbers from 0 to 1, losses are in nats per image.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from job.core.identity_records import ContributionRecord, Environment, Later
from job.core.resource_records import ResourceFacts

Purpose = Literal["start-up", "data", "step", "evaluation", "checkpoint stall", "upload wait", "other"]
"""What a second is spent on: see `job.core.time_ledger`."""
Seconds = dict[Purpose, float]
"""purpose → seconds"""
RecipeValue = str | int | float | bool

FORMAT = 1
"""of the records; a greater one is of a newer version, and none of what it says can be relied on"""
Digest = Annotated[str, "[0-9a-f]{64}"]
"""SHA-256 in hexadecimal"""
AttemptName = Annotated[str, "[0-9]{4}-[0-9a-f]{6}"]
CheckpointFolder = Annotated[str, "step-[0-9]{8}-[0-9]{4}-[0-9a-f]{6}"]
ModelKey = Annotated[str, r"checkpoints/step-[0-9]{8}-[0-9]{4}-[0-9a-f]{6}/model\.safetensors"]
ObjectName = Annotated[str, "[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"]
"""below a folder, and never outside of it"""


class DataFacts(TypedDict):
    """The dataset."""

    name: str
    """`cifar10`, `digits`, or the name of the folder or archive; with `[:N]` where only the first N training images are used"""
    fingerprint: Digest
    """SHA-256 over all images and labels, in hexadecimal"""
    classes: list[str]
    """names of the classes, in the order of the labels"""
    train_images: int
    """number of training images, those held out for validation included"""
    test_images: int
    """number of test images"""


class RunRecord(TypedDict):
    """run.json: what is trained, the same bytes whoever writes it."""

    format: int
    """1"""
    threads: int
    """CPU threads of each worker, which every attempt uses, since they change the order of sums"""
    shards: Later[int]
    """gradients that each step adds up in one tree, whatever the number of workers; absent: 1"""
    arithmetic: Later[int]
    """`ARITHMETIC` of the version that began the run, which goes on under no other; absent: 1"""
    recipe: dict[str, RecipeValue]
    """the fields of the recipe, with `precision` as the first attempt resolved it"""
    seed: int
    """from which everything random is derived"""
    data: DataFacts
    """the dataset"""
    init_from_sha256: Later[str | None]
    """SHA-256 over what `--init-from` gave: for each tensor of all layers but the last, in network order, the line `NAME SHAPE` and its
    values as little-endian float32; null without `--init-from`"""


class Status(TypedDict):
    """status.json: how far an attempt is."""

    run: str
    """id of the run"""
    attempt: str
    """name of the attempt"""
    engine: str
    """`torch` or `tensorflow`; `torch → tensorflow` where the run went on in another"""
    recipe: str
    """name of the recipe"""
    epoch: int
    """epochs done"""
    epochs: int
    """epochs that the run shall have"""
    step: int
    """optimiser steps done"""
    steps: int
    """optimiser steps that the run shall have"""
    test_accuracy: float | None
    """after the last finished epoch; null before the first"""
    images_per_second: float | None
    """training images in each second of the last logging interval; null before the first"""
    loss: Later[float | None]
    """mean over the steps of the last logging interval; null before the first"""
    last_step: Later[float | None]
    """when the last step was taken, in seconds since 1970, by the store's clock; null before the first"""
    seconds_left: Later[float | None]
    """that the training will still take, at its speed so far; null before the first logging interval ends"""


class Ending(TypedDict):
    """Why an attempt ended."""

    exit_code: int
    """of the process"""
    reason: str
    """one sentence"""


class PeakMemory(TypedDict, total=False):
    """What is known at the end of a finished run only."""

    peak_host_memory_bytes: int
    """most memory that the process had in use; of a finished run only"""


class End(Status, Ending, PeakMemory):
    """end.json: how far an attempt was when it ended, and why it did."""


class IntervalLine(TypedDict):
    """A line of metrics.jsonl with kind `interval`: the steps since the line before, with dropout and augmentation."""

    kind: Literal["interval"]
    """tells it from an epoch's line"""
    time: Later[float]
    """when it was written, in seconds since 1970, by the clock of the machine"""
    step: int
    """optimiser steps done at its end"""
    epoch: int
    """that its steps belong to, from 1"""
    loss: float
    """mean over its steps, with label smoothing"""
    last_loss: float
    """of its last step"""
    accuracy: float
    """share of its training images that were right"""
    learning_rate: float
    """of its last step"""
    image_size: Later[int]
    """side in pixels of its training images"""
    images_per_second: float
    """training images in each second"""


class EpochLine(TypedDict):
    """A line of metrics.jsonl with kind `epoch`: written at the end of each epoch."""

    kind: Literal["epoch"]
    """tells it from an interval's line"""
    time: Later[float]
    """when it was written, in seconds since 1970, by the clock of the machine"""
    epoch: int
    """from 1"""
    step: int
    """optimiser steps done"""
    train_loss: float
    """mean over the steps of the epoch, with dropout, augmentation and label smoothing"""
    train_accuracy: float
    """share of its training images that were right, with dropout and augmentation"""
    test_loss: float
    """over the whole test set, without them"""
    test_accuracy: float
    """over the whole test set, without them"""
    test_top5_accuracy: Later[float]
    """share of the test set whose class is among the five most probable ones"""
    learning_rate: float
    """of the last step"""
    image_size: Later[int]
    """side in pixels of its training images; the test images have the recipe's `image_size`"""
    images_per_second: float
    """training images in each second, of the median step of the epoch, each step as fast as its logging interval"""
    validation_loss: NotRequired[float]
    """over the images that are held out, where the recipe has `validation` above 0"""
    validation_accuracy: NotRequired[float]
    """over the images that are held out, where the recipe has `validation` above 0"""
    seconds: Seconds
    """where the time of the epoch went"""
    energy_joules: NotRequired[float]
    """of all GPUs since the epoch before, in J; absent without counters and where an attempt began within the epoch"""
    train_images: NotRequired[int]
    """training images of the epoch; beside energy_joules"""


MetricsLine = IntervalLine | EpochLine
"""A line of metrics.jsonl, told apart by `kind`."""


class ProgressState(TypedDict):
    """Where the training stands, beside the tensors and the metrics."""

    step: int
    """optimiser steps done"""
    losses: list[float]
    """of each step since the last logging interval ended"""
    hits: list[int]
    """training images that were right, of each step since the last logging interval ended"""
    epoch_loss: float
    """sum of the losses of the steps of the epoch in progress"""
    epoch_hits: int
    """training images of the epoch in progress that were right"""
    best: CheckpointFolder | None
    """name of the checkpoint with the best validation accuracy; null without validation"""
    best_accuracy: float
    """its validation accuracy; -1 without one"""


class EpochSeconds(TypedDict):
    """Where the time of one epoch went."""

    epoch: int
    """from 1"""
    seconds: Seconds
    """where they went"""


class TimeLedgerState(TypedDict):
    """Where the time went that led to a checkpoint."""

    epochs: list[EpochSeconds]
    """of each finished epoch"""
    open: Seconds
    """since the last epoch ended"""


class CheckpointState(TypedDict):
    """state.json: what continues a run, beside the tensors."""

    format: Later[int]
    """1"""
    progress: ProgressState
    """where the training stands"""
    engine: str
    """that wrote the checkpoint: `torch` or `tensorflow`; either reads it"""
    ledger: TimeLedgerState
    """where the time went that led here, over all attempts"""
    contributions: Later[list[ContributionRecord]]
    """which attempts took the steps that led here, in order"""


class FileEntry(TypedDict):
    """What vouches for one object."""

    size: int
    """in bytes"""
    sha256: Digest
    """SHA-256 of its bytes, in hexadecimal"""


class Manifest(TypedDict):
    """MANIFEST.json of a checkpoint: its presence says that the checkpoint is complete."""

    files: dict[ObjectName, FileEntry]
    """name of each other object of the folder → what vouches for it"""


class DatasetManifest(Manifest):
    """MANIFEST.json of a dataset, as `alexnet data push` stores it."""

    fingerprint: Digest
    """SHA-256 over all images and labels, in hexadecimal"""


class TruncatedTest(TypedDict):
    """The test without the last, incomplete batch."""

    images: int
    """test images in whole batches"""
    test_accuracy: float | None
    """over these; null where there is no whole batch"""


class Finding(TypedDict):
    """Something about the setting of a run that could be better."""

    title: str
    """what"""
    seen: str
    """the figures that say so"""
    when: str
    """in which part of the run"""
    change: str
    """what to do"""


class ExtraTests(TypedDict, total=False):
    """What a recipe may ask for."""

    truncated_test: TruncatedTest
    """where the recipe has `truncated_test`"""
    validation_accuracy: float
    """after `model_epoch`, over the images that are held out, where the recipe has `validation` above 0"""


class PlatformSpeed(TypedDict):
    """How fast the steps were that one engine took on one kind of device."""

    engine: str
    """`torch` or `tensorflow`"""
    device: str
    """name of the GPU, or `cpu`"""
    images_per_second: float
    """training images in each second, of the median step"""


class TrainingFacts(Environment, ExtraTests):
    """What was trained, with what, and what it learnt."""

    format: int
    """1"""
    run: str
    """id of the run"""
    recipe: str
    """name of the recipe"""
    precision: str
    """of activations and gradients: `bf16`, `fp32` or `fp64`"""
    parameters: int
    """number of the network's parameters"""
    seed: int
    """from which everything random is derived"""
    data: DataFacts
    """the dataset"""
    epochs: int
    """done"""
    steps: int
    """optimiser steps done"""
    model_epoch: Later[int]
    """epoch whose weights these are and whose accuracies follow: the last, or with `validation` the best on the validation images
    of those whose checkpoints are sound"""
    train_accuracy: float
    """over the training images of that epoch, with dropout and augmentation"""
    test_accuracy: float
    """over the whole test set"""
    test_top5_accuracy: Later[float]
    """share of the test set whose class is among the five most probable ones"""
    test_accuracy_interval_95: tuple[float, float]
    """its 95 % interval (Wilson): low, high"""
    test_images: int
    """number of test images"""
    test_loss: float
    """over the whole test set"""
    images_per_second: float
    """training images in each second, of the median step, each step as fast as its logging interval; of a run that went on in another
    engine or on another device, of the steps there; with `progressive_resizing` all images by the time that the median step of each size
    takes"""
    speeds: Later[list[PlatformSpeed]]
    """the same figure for each engine and device that took steps, in order of appearance"""
    peak_host_memory_bytes: int
    """most memory that the process had in use"""


class Efficiency(TypedDict):
    """Where the time went, how fast, with how much of the machine."""

    time: Seconds
    """where the time went that led to the result, over all attempts"""
    wall_seconds: float
    """time that all attempts took, what was lost with killed ones included"""
    goodput: float | None
    """share of wall_seconds that was spent on steps that led to the result"""
    images_per_second_p5: float | None
    """training images in each second, the 5th percentile over the steps that `images_per_second` is of"""
    flop_per_second: float | None
    """floating-point operations in each second: six for each multiply-accumulate of the forward pass, four in the first convolution"""
    resources: ResourceFacts
    """what the attempt that finished the run used"""
    energy_joules_per_epoch: NotRequired[float]
    """of all GPUs, in J, the mean over the epochs that were measured as a whole; absent: none was"""
    images_per_joule: NotRequired[float]
    """training images for each joule, over the same epochs"""


class Committed(TypedDict):
    """What a summary vouches for."""

    model: ModelKey
    """key, within the run, of the weights that the figures are of: `checkpoints/…/model.safetensors`"""
    attempt: AttemptName
    """name of the attempt that finished the run; `final/ATTEMPT/` holds its objects"""
    final: dict[ObjectName, FileEntry]
    """name of each object in there → what vouches for it"""


class Summary(TrainingFacts, Efficiency, Committed):
    """summary.json: the final figures; its presence says that the run is complete."""

    nondeterministic: Later[list[str]]
    """operations without a deterministic kernel that the attempt that finished it used; where there is one, the run is not reproducible"""
    contributions: Later[list[ContributionRecord]]
    """which attempts took the steps of the run, in order; the last of them wrote the results"""
    findings: list[Finding]
    """what could be better about the setting; empty: nothing was seen"""


class TracedSteps(TypedDict):
    """What the steps of a trace were."""

    recipe: dict[str, RecipeValue]
    """the fields of the recipe"""
    seed: int
    """from which everything random is derived"""
    steps: int
    """optimiser steps taken"""
    at: list[int]
    """steps that were observed in full, from 0"""
    environment: Environment
    """where it was computed"""
    hits: list[int]
    """images that were right, of each step"""
    digests: dict[str, Digest]
    """`STEP/inputs` and `STEP/masks/LAYER` → SHA-256 of its bytes: pixels as little-endian numbers, masks as bits. And of the state after
    the first observed step: `saved/evaluation`, `loaded/evaluation`, `loaded/weights/PARAMETER`, `loaded/slots/SLOT/PARAMETER`"""


class TraceFacts(TracedSteps):
    """What identifies a trace: each field is a JSON text in the header (`__metadata__`) of the safetensors file."""

    threads: int
    """CPU threads"""
