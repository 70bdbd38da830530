"""What to run where a GPU parted and the operation is not known: it, and one that is right, take the step again under a trace."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from job.acceptance.locate import Place
from job.core.acceptance_records import Mode, Verdict
from job.core.recipe import from_toml
from job.fleet.groups import Group
from job.fleet.reading import Report

Locate = Callable[[str, str, Mode], Place | None]
"""(GPU, the GPU or reference that is right, precision) → where exactly they part; None where that cannot be told"""


@dataclass(frozen=True, kw_only=True)
class Retrace:
    """The report that the last command prints names the operation, if the fault is still there."""

    gpu: str
    """name of the one that parted"""
    right: str
    """name of one that is right, or of the reference"""
    step: int
    """in which they part, from 1"""
    there: str
    """command, where the GPU is"""
    on_the_right_one: str
    """command, where that one is"""
    then: str
    """command, anywhere"""


def retraces(groups: Sequence[Group], reports: Sequence[Report], locate: Locate) -> Iterator[Retrace]:
    """One for each GPU and step.  `reports`: of the reference and of all GPUs."""
    known = {report.name: report for report in reports}
    found = set()
    for vote in (vote for group in groups for vote in group.votes):
        for name, parting in vote.partings.items():
            place = locate(name, vote.right or "", vote.mode)
            if place and not parting.operation and (name, place.step) not in found:
                found.add((name, place.step))
                yield _retrace(known[name], known[vote.right or ""], place.step)


def _retrace(gpu: Report, right: Report, step: int) -> Retrace:
    place = f"{gpu.store.url}/trace-{gpu.name}"
    return Retrace(
        gpu=gpu.name,
        right=right.name,
        step=step,
        there=_command(gpu.verdict, step, "deviant", place),
        on_the_right_one=_command(right.verdict, step, "right", place),
        then=shlex.join(["alexnet", "accept", "report", place, "--reference", f"{place}/right"]),
    )


def _command(verdict: Verdict | None, step: int, name: str, place: str) -> str:
    """The same work as the verdict's, one round of it."""
    assert verdict
    work, uuid = verdict["work"], verdict["gpu"]["uuid"]
    usual = from_toml(resources.files("job").joinpath("recipes", "accept.toml").read_text("utf-8"), "accept").as_dict()
    changed = [f"--set={key}={value}" for key, value in work.items() if key in usual and value != usual[key]]
    words = ["alexnet", "accept", f"--engine={verdict['engine']}", *changed, f"--seed={work['seed']}", f"--steps={work['steps']}"]
    words += [f"--threads={verdict['group']['threads']}"] if "threads" in verdict["group"] else []
    words += ["--device=cuda" if uuid else "--device=cpu", "--rounds=1", f"--trace={step}", f"--run-id={name}", f"--output={place}"]
    return shlex.join(["env", f"CUDA_VISIBLE_DEVICES={uuid}", *words] if uuid else words)
