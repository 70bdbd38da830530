"""A fleet judged as a whole: each GPU by its own verdict, by the bytes of its group, and by how far it is from its group's median."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from job.acceptance.locate import Place
from job.analysis.formatting import listed, shortened
from job.core.acceptance_records import Level
from job.core.exits import Exit
from job.fleet.digests import Parting
from job.fleet.figures import figures_of, likely_causes
from job.fleet.groups import Group, Verdicts, grouped
from job.fleet.outliers import LEAST, Spread
from job.fleet.reading import Report
from job.fleet.retracing import Locate, Retrace, retraces

State = Literal["fail", "suspect", "missing", "pass"]
STATES: tuple[State, ...] = ("fail", "suspect", "missing", "pass")
"""the worst first"""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a GPU does not pass."""

    level: Level
    what: str
    """one sentence without its full stop"""
    cause: str = ""
    """the likely one, where there is one to look for"""

    @property
    def text(self) -> str:
        return f"{self.what}; likely cause: {self.cause}" if self.cause else self.what


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU in the report."""

    name: str
    """of its folder below the place"""
    state: State
    reasons: list[Reason]
    node: str
    """of the cluster, else the host; "unknown" where nothing tells it"""
    pod: str | None
    index: int | None
    """in an Indexed Job"""
    product: str
    uuid: str
    position: int
    """on the node, from 0"""
    attempts: int
    """that were begun"""
    group: int | None
    """number of its group"""
    figures: dict[str, float]
    """name → value"""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What there is to know."""

    gpus: list[Gpu]
    """the worst first, then by node and position"""
    groups: list[Group]
    retraces: list[Retrace]
    """how the operation is found out where none is named"""
    never: list[str]
    """GPUs that should have a verdict, and of which there is none"""
    not_tested: list[tuple[str, int]]
    """sentence → GPUs that it holds for, those of most GPUs first"""
    notes: list[str]
    """what else a reader should know, a sentence each"""

    def count(self, state: State) -> int:
        return sum(gpu.state == state for gpu in self.gpus)

    @property
    def exit_code(self) -> Exit:
        """71 if a GPU is bad or suspect, else 74 if one did not report, else 0."""
        if self.count("fail") or self.count("suspect"):
            return Exit.DEVICE
        return Exit.NOT_STORED if self.count("missing") or self.never else Exit.DONE

    @property
    def nodes(self) -> dict[str, list[Gpu]]:
        """GPUs by node, the node with the worst one first."""
        found: dict[str, list[Gpu]] = {}
        for gpu in self.gpus:
            found.setdefault(gpu.node, []).append(gpu)
        return found


def judge(
    reports: Sequence[Report],
    *,
    expect: int | None = None,
    reference: Report | None = None,
    locate: Locate = lambda *_: None,
) -> Fleet:
    """`expect`: GPUs that there should be; `reference`: one that is known to be good, whose word decides in its group."""
    verdicts = {report.name: report.verdict for report in reports if report.verdict is not None}
    groups = grouped(verdicts, reference)
    reasons: dict[str, list[Reason]] = defaultdict(list)
    for group in groups:
        for name, reason in [*_by_bytes(group, locate), *_by_figures(group, verdicts)]:
            reasons[name].append(reason)
    for report in reports:
        reasons[report.name] += [*_by_itself(report), *_by_its_past(report)]
    numbers = {name: group.number for group in groups for name in group.gpus}
    gpus = [_gpu(report, reasons[report.name], numbers.get(report.name)) for report in reports]
    return Fleet(
        gpus=sorted(gpus, key=lambda gpu: (STATES.index(gpu.state), gpu.node, gpu.position, gpu.name)),
        groups=groups,
        retraces=[*retraces(groups, [*([reference] if reference else []), *reports], locate)],
        never=[*_never(reports, expect), *_abandoned(reports)],
        not_tested=_not_tested(verdicts, groups),
        notes=[*_notes(gpus, groups, reference)],
    )


def _gpu(report: Report, reasons: list[Reason], group: int | None) -> Gpu:
    told = report.verdict or report.started
    levels = {reason.level for reason in reasons}
    state: State = "missing" if report.verdict is None else "fail" if "fail" in levels else "suspect" if levels else "pass"
    return Gpu(
        name=report.name,
        state=state,
        reasons=reasons if report.verdict else [Reason(level="suspect", what=report.trouble)],
        node=(told["node"] or told["host"]) if told else "unknown",
        pod=told["pod"] if told else None,
        index=told["index"] if told else None,
        product=told["gpu"]["name"] if told else "",
        uuid=told["gpu"]["uuid"] if told else "",
        position=told["gpu"]["position"] if told else 0,
        attempts=1 + len(report.earlier),
        group=group,
        figures={figure.name: value for figure, value in figures_of(report.verdict).items()} if report.verdict else {},
    )


def _by_its_past(report: Report) -> Iterator[Reason]:
    """What comes and goes is a fault all the same."""
    failed = [past.attempt for past in report.earlier if past.verdict and past.verdict["verdict"] == "fail"]
    if failed:
        yield Reason(level="suspect", what=f"its attempt {failed[-1]} failed; after a repair, test it below another place")


def _by_itself(report: Report) -> Iterator[Reason]:
    if report.verdict is None or report.verdict["verdict"] == "pass":
        return
    told = [each for each in report.verdict["evidence"] if each["level"] != "pass"]
    yield from (Reason(level=each["level"], what=f"{each['check']}: {each['what'].rstrip('.')}") for each in told)
    if not told:
        yield Reason(level=report.verdict["verdict"], what="its own verdict, without evidence")


def _by_bytes(group: Group, locate: Locate) -> Iterator[tuple[str, Reason]]:
    """One reason for each GPU and place where it parts, with all precisions in which it does."""
    found: dict[tuple[str, Level, str], list[str]] = defaultdict(list)
    for vote in group.votes:
        for name, parting in vote.partings.items():
            where = _where(parting, locate(name, vote.right or "", vote.mode))
            found[name, "fail", f"other bytes than {vote.source}, first in {where}"].append(vote.mode)
        for name in vote.undecided:
            found[name, "suspect", f"its group gave different bytes: {vote.source}"].append(vote.mode)
    for (name, level, what), modes in found.items():
        yield name, Reason(level=level, what=f"{listed(modes)}: {what}")


def _where(parting: Parting, place: Place | None) -> str:
    if parting.operation and not (place and place.step < parting.traced):
        return f"step {parting.traced}, {parting.operation}"
    if place:
        return f"step {place.step}, {place.place}: {place.tensor}"
    others = f" and {parting.tensors - 1} more of {parting.of}" if parting.tensors > 1 else ""
    return f"the interval that ends with step {parting.step}, {parting.tensor}{others}"


def _by_figures(group: Group, verdicts: Verdicts) -> Iterator[tuple[str, Reason]]:
    """One reason for each GPU, with all its figures that are outliers."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in group.spreads:
        for name, value in each.outliers.items():
            found[name].append(_apart(each, value))
    for name, figures in found.items():
        yield name, Reason(level="suspect", what=listed(figures), cause=likely_causes(verdicts[name], group.states))


def _apart(spread: Spread, value: float) -> str:
    figure = spread.figure
    limit = spread.low if spread.low is not None and value < spread.low else spread.high
    unit = "" if figure.unit in figure.name else f" {figure.unit}"
    return f"{figure.name} {number(value)}{unit} (median {number(spread.median)}, limit {number(limit or 0.0)})"


def number(value: float) -> str:
    """Three digits at least."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _never(reports: Sequence[Report], expect: int | None) -> Iterator[str]:
    """Indexes of Jobs without a sign of life, and how many GPUs are missing from `expect`."""
    seen: dict[tuple[str, int], set[int]] = defaultdict(set)
    for told in (report.verdict or report.started for report in reports):
        if told and told["of"] is not None and told["index"] is not None:
            seen[told["job_uid"] or "", told["of"]].add(told["index"])
    damaged = {report.name for report in reports if not (report.verdict or report.started)}
    for (uid, of), indexes in seen.items():
        for index in range(of):
            if index not in indexes and f"{uid}-{index}" not in damaged:
                yield f"index {index} of {of} of the Job {uid}"
    if expect is not None and len(reports) < expect:
        yield f"{expect - len(reports)} of the {expect} GPUs that --expect names"


def _abandoned(reports: Sequence[Report]) -> Iterator[str]:
    """GPUs on which a test was begun that went on, or again, on another one: an evicted pod may get any."""
    told = {report.verdict["gpu"]["uuid"] for report in reports if report.verdict}
    begun = {past.started["gpu"]["uuid"]: past.started for report in reports for past in report.earlier if past.started}
    for uuid, started in begun.items():
        if uuid and uuid not in told:
            yield f"GPU {started['gpu']['position']} ({uuid}) of {started['node'] or started['host']}, where a test was begun"


def _not_tested(verdicts: Verdicts, groups: Sequence[Group]) -> list[tuple[str, int]]:
    counts = Counter(sentence.rstrip(".") for verdict in verdicts.values() for sentence in verdict["not_tested"])
    for group in groups:
        if len(group.gpus) < LEAST:
            counts[f"speed, power, temperature and bandwidth against others: fewer than {LEAST} GPUs in a group tell no outlier"] += len(
                group.gpus
            )
        if len(group.gpus) == 1:
            counts["bytes against others: the only GPU of its group"] += 1
    if doubtful := sum(not verdict["reproducible"] for verdict in verdicts.values()):
        counts["bytes against others: an operation without a deterministic kernel was used"] = doubtful
    return counts.most_common()


def _notes(gpus: Sequence[Gpu], groups: Sequence[Group], reference: Report | None) -> Iterator[str]:
    if again := [gpu.name for gpu in gpus if gpu.attempts > 1]:
        yield f"Begun more than once: {shortened(again)}."
    names: dict[str, list[str]] = defaultdict(list)
    for gpu in gpus:
        if gpu.uuid:
            names[gpu.uuid].append(gpu.name)
    if twice := [uuid for uuid, each in names.items() if len(each) > 1]:
        yield f"Tested more than once, so that another GPU may not have been tested at all: {shortened(twice)}."
    if reference and not any(vote.right == reference.name for group in groups for vote in group.votes):
        yield f"The reference {reference.name} decides nothing: it differs from each group in device, software or work."
