"""Which attempts took the steps that a result rests on, in which engine, on what, with which code.

An attempt that was killed has often taken steps that another one took again.  Only those count that led to the result: each checkpoint
carries the list that led to it, and who goes on from it takes the list over.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, cast, get_args

from job.core.identity_records import Claim, ContributionRecord
from job.core.records import CheckpointState, Summary

Library = Literal["torch", "tensorflow", "keras", "cuda", "cudnn", "numpy"]
UNKNOWN = {"device": "unknown", "cuda": None, "cudnn": None, "numpy": "", "host": "", "image": "", "started": 0.0}
"""for a claim that is missing"""
LIBRARIES: tuple[Library, ...] = get_args(Library)


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one attempt did for the result."""

    attempt: str
    """its name"""
    engine: str
    device: str
    """name of the GPU, or `cpu`"""
    versions: tuple[tuple[str, str], ...]
    """(library, version), in the order of LIBRARIES"""
    threads: int
    """CPU threads"""
    code: str
    """version of the package and digest of the files that decide the numbers; empty: an older version did not record it"""
    first_step: int
    """from 1"""
    last_step: int
    """first_step - 1 where it took no step and evaluated only"""

    @property
    def device_kind(self) -> Literal["cpu", "gpu"]:
        return "cpu" if self.device == "cpu" else "gpu"

    @property
    def steps(self) -> str:
        """For people: `1 to 1,170`."""
        return f"{self.first_step:,} to {self.last_step:,}" if self.last_step >= self.first_step else "evaluation only"


def contributions(summary: Summary, threads: int) -> list[Contribution]:
    """Of a finished run, in the order of the steps; the last one wrote the results.  `threads`: those of its run.json.

    A summary of an older version names the last attempt only, which then counts for all steps."""
    return [_read(record, threads) for record in summary.get("contributions") or [_only(summary)]]


def engine_label(found: Iterable[Contribution]) -> str:
    """`torch`, or `torch → tensorflow` where a run went on in another engine."""
    return engine_names(one.engine for one in found)


def engine_names(engines: Iterable[str]) -> str:
    """The label for the engines of contributions, in their order."""
    return " → ".join(engine for engine, _ in groupby(engines))


def by_older_version(state: CheckpointState, attempt: str, claim: Claim | None) -> list[ContributionRecord]:
    """For a checkpoint that does not tell: all its steps count for the attempt that wrote it."""
    steps = {"attempt": attempt, "first_step": 1, "last_step": state["progress"]["step"]}
    return [cast(ContributionRecord, {**(claim or UNKNOWN), "engine": state["engine"], **steps})]


def _only(summary: Summary) -> ContributionRecord:
    own = {name: value for name, value in summary.items() if name in ("engine", "device", "attempt", *LIBRARIES)}
    return cast(ContributionRecord, {**own, "first_step": 1, "last_step": summary["steps"]})


def _read(record: ContributionRecord, threads: int) -> Contribution:
    source = record.get("source")
    return Contribution(
        attempt=record["attempt"],
        engine=record["engine"],
        device=record.get("device", "unknown"),
        versions=tuple((name, str(record[name])) for name in LIBRARIES if record.get(name)),
        threads=threads,
        code=f"{record.get('version', '')} {source[:12]}" if source else "",
        first_step=record["first_step"],
        last_step=record["last_step"],
    )
