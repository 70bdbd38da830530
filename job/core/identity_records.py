"""Who computed: engine, device, versions, code and place of an attempt, and which steps of a run it took.

Beside `job.core.records`, for the same readers and writers.
"""

from typing import Annotated, NotRequired, TypedDict, TypeVar

T = TypeVar("T")
Later = Annotated[T, "later"]
"""What every writer gives, and what older versions did not write: a reader must do without."""
ARITHMETIC = 2
"""raised with every version that adds the numbers of a step in another order, so that a run could not go on to the same bytes"""


class Environment(TypedDict):
    """Where an engine computes, and with which versions."""

    engine: str
    """`torch` or `tensorflow`"""
    device: str
    """name of the GPU, or `cpu`"""
    torch: NotRequired[str]
    """version; with the engine torch"""
    tensorflow: NotRequired[str]
    """version; with the engine tensorflow"""
    keras: NotRequired[str]
    """version; with the engine tensorflow"""
    cuda: str | None
    """version that the framework was built for; null on a CPU"""
    cudnn: str | int | None
    """version; null on a CPU"""
    numpy: str
    """version"""


class Code(TypedDict):
    """Which code an attempt ran."""

    version: Later[str]
    """of the package alexnet-job"""
    revision: Later[str | None]
    """git commit of the checkout or of the image, with `-dirty` where files differed from it; null where neither is known"""
    source: Later[str]
    """SHA-256 over the files of the package that decide the numbers of a run, in hexadecimal; the same in both images"""
    image: str
    """name of the container image; empty outside of one"""


class Place(TypedDict):
    """Where an attempt ran."""

    host: str
    """name of the host or pod, by the operating system"""
    gpu_uuid: Later[str | None]
    """of the GPU in use, by its driver; null on a CPU, and where the driver does not say"""
    node: Later[str | None]
    """of the cluster; null where the manifest does not tell it (`ALEXNET_NODE`)"""
    pod: Later[str | None]
    """`ALEXNET_POD`, as `node`"""
    namespace: Later[str | None]
    """`ALEXNET_NAMESPACE`, as `node`"""
    job: Later[str | None]
    """`ALEXNET_JOB`, as `node`"""
    job_uid: Later[str | None]
    """of that Job, `ALEXNET_JOB_UID`, as `node`"""


class WorkerRecord(TypedDict):
    """One of several workers of an attempt."""

    rank: int
    """from 0; worker 0 is the process that the claim is of"""
    host: str
    """name of the host or pod, by the operating system"""
    device: str
    """name of the GPU, or `cpu`"""
    gpu_uuid: str | None
    """of its GPU, by its driver; null on a CPU, and where the driver does not say"""
    node: str | None
    """of the cluster; null where the manifest does not tell it (`ALEXNET_NODE`)"""
    pod: str | None
    """`ALEXNET_POD`, as `node`"""


class Company(TypedDict, total=False):
    """Of an attempt of several workers."""

    workers: list[WorkerRecord]
    """all that share the steps, by rank; absent: the process is alone"""


class Claim(Environment, Code, Place, Company):
    """claim.json: which process worked on the run, where and with what."""

    started: float
    """when, in seconds since 1970, by the store's clock"""


class ContributionRecord(Claim):
    """The claim of an attempt whose steps the result rests on, and which these are."""

    attempt: str
    """name of the attempt"""
    first_step: int
    """its first optimiser step, from 1"""
    last_step: int
    """its last; first_step - 1 where it took none and evaluated only"""
