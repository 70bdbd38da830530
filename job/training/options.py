"""What a training is asked for beside its recipe."""

from dataclasses import dataclass
from pathlib import Path

from job.core.place import ALONE, Place


@dataclass(frozen=True, kw_only=True)
class Options:
    """Seed and data change the numbers of a run, and so may the numbers of threads and shards; nothing else here does."""

    engine: str = "torch"
    """torch or tensorflow"""
    data: str = "cifar10"
    """what `job.data.sources.load` takes"""
    output: str = "runs"
    """folder or s3://bucket/prefix that holds the run"""
    run_id: str | None = None
    """None: a new, unique one"""
    seed: int = 0
    """of everything random: data order, augmentation, initial weights, dropout"""
    device: str = "auto"
    """auto, cpu or cuda"""
    continue_in_other_engine: bool = False
    """go on with a run whose last steps were taken in another engine"""
    threads: int | None = None
    """CPU threads; they change the order of sums, so a resumed run uses the number that it began with.  None: what the container may use"""
    place: Place = ALONE
    """among the workers of the run"""
    shards: int | None = None
    """gradients that a step adds up (`job.core.sharding`); a resumed run uses the number that it began with.  None: as many as workers"""
    worker_timeout: float = 60.0
    """seconds of silence after which another worker counts as gone"""
    init_from: str | None = None
    """weights for recipes with `pretrained`: what `job.runs.pretrained.fetch_weights` takes"""
    subset: int | None = None
    """only the first so many training images, and a fifth as many test images"""
    mirror: str | None = None
    """URL to download CIFAR-10 from"""
    cache: Path = Path("cache")
    """folder for downloads"""
    log_steps: int = 50
    """steps of a logging interval"""
    checkpoint_steps: int = 0
    """also store a checkpoint every so many steps; 0: only at the end of each epoch"""
    checkpoint_minutes: float = 0.0
    """also store a checkpoint when the last one is so many minutes old; 0: never for that reason"""
    flush_timeout: float = 600.0
    """seconds that a run waits at its end for the store to take all results"""
    spool: Path | None = None
    """folder in which uploads wait; None: beside a local output, else the folder for temporary files"""
    spool_limit: int = 2 << 30
    """bytes that may wait in the spool; beyond them training waits"""
    metrics_port: int = 0
    """port on which Prometheus finds where the attempt stands; 0: none"""
