"""A fleet as text for a terminal, as JSON for a controller, and as names for `kubectl`."""

from collections.abc import Iterator, Sequence
from typing import Any

from job.analysis.formatting import columns, listed
from job.fleet.judgement import STATES, Fleet, Gpu
from job.fleet.outliers import FALSE_ALARMS

METHOD = (
    "An outlier lies farther from its group's median than the group's median absolute deviation allows. In a fleet without a fault, whose "
    f"figures are normally distributed, the chance of any is at most {FALSE_ALARMS:.0%}."
)
WORDS = {
    "fail": ("fails", "fail"),
    "suspect": ("is suspect", "are suspect"),
    "missing": ("did not report", "did not report"),
    "pass": ("passes", "pass"),
}
QUARANTINE = ("fail", "suspect")
"""states for which a node's name is printed for `kubectl cordon`"""


def headline(fleet: Fleet) -> str:
    """Such as `8 GPUs on 2 nodes: 1 fails, 1 is suspect, 6 pass.`"""
    parts = [f"{count:,} {WORDS[state][count > 1]}" for state in STATES if (count := fleet.count(state))]
    never = f" Not tested at all: {listed(fleet.never)}." if fleet.never else ""
    return f"{counted(len(fleet.gpus), 'GPU')} on {counted(len(fleet.nodes), 'node')}: {', '.join(parts)}.{never}"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def text(fleet: Fleet) -> str:
    """One line for each node, the worst first; then groups, what was not tested, and what else there is to know."""
    parts = [headline(fleet), columns([_line(node, gpus) for node, gpus in fleet.nodes.items()]), *retraces(fleet), *_groups(fleet)]
    parts.append("\n".join(["Not tested:", *(f"  {sentence}" for sentence in not_tested(fleet))]))
    return "\n\n".join([*parts, *fleet.notes, METHOD])


def _line(node: str, gpus: Sequence[Gpu]) -> list[str]:
    bad = [gpu for gpu in gpus if gpu.state != "pass"]
    why = "; ".join(f"{who(gpu)}: {'; '.join(reason.text for reason in gpu.reasons)}" for gpu in bad)
    return [gpus[0].state, node, counted(len(gpus), "GPU"), why]


def who(gpu: Gpu) -> str:
    """What a person in the machine room looks for."""
    index = "" if gpu.index is None else f"index {gpu.index}, "
    return f"{index}GPU {gpu.position}{f' ({gpu.uuid})' if gpu.uuid else ''}" if gpu.product else gpu.name


def retraces(fleet: Fleet) -> Iterator[str]:
    """What a person has to do to learn an operation."""
    known = {gpu.name: f"{gpu.node}, {who(gpu)}" for gpu in fleet.gpus}
    for each in fleet.retraces:
        yield (
            f"To name the operation of step {each.step}, run\n  on {known[each.gpu]}:\n    {each.there}\n"
            f"  on {known.get(each.right, each.right)}, which is right:\n    {each.on_the_right_one}\n  and then:\n    {each.then}"
        )


def _groups(fleet: Fleet) -> list[str]:
    lines = []
    for group in fleet.groups:
        sources: dict[str, list[str]] = {}
        for vote in group.votes:
            sources.setdefault(vote.source, []).append(vote.mode)
        right = "; ".join(f"{listed(modes)}: {source}" for source, modes in sources.items()) or "none that can be compared"
        lines.append(f"  {counted(len(group.gpus), 'GPU')}, {group.label}. Right bytes in {right}.")
    return ["\n".join(["Groups that must give equal bytes:", *lines])] if lines else []


def not_tested(fleet: Fleet) -> list[str]:
    """Each with the number of GPUs that it holds for, where these are not all."""
    reported = sum(gpu.state != "missing" for gpu in fleet.gpus)
    return [what if count == reported else f"{what} ({counted(count, 'GPU')})" for what, count in fleet.not_tested]


def names(fleet: Fleet) -> str:
    """`node/NAME` of each node with a GPU that is not fit for use, as `kubectl -o name` prints it."""
    return "\n".join(f"node/{node}" for node, gpus in fleet.nodes.items() if any(gpu.state in QUARANTINE for gpu in gpus))


def as_json(fleet: Fleet) -> dict[str, Any]:
    """Everything."""
    return {
        "exit_code": int(fleet.exit_code),
        "headline": headline(fleet),
        "states": {state: fleet.count(state) for state in STATES},
        "false_alarms": FALSE_ALARMS,
        "nodes": [
            {"node": node, "state": gpus[0].state, "gpus": [{**vars(gpu), "reasons": [vars(each) for each in gpu.reasons]} for gpu in gpus]}
            for node, gpus in fleet.nodes.items()
        ],
        "groups": [
            {
                "number": group.number,
                "label": group.label,
                "facts": group.facts,
                "gpus": len(group.gpus),
                "bytes": {
                    vote.mode: {
                        "source": vote.source,
                        "right": vote.right,
                        "agree": len(vote.agree),
                        "partings": {n: vars(p) for n, p in vote.partings.items()},
                    }
                    for vote in group.votes
                },
                "figures": {
                    each.figure.name: {
                        "unit": each.figure.unit,
                        "median": each.median,
                        "deviation": each.deviation,
                        "low": each.low,
                        "high": each.high,
                    }
                    for each in group.spreads
                },
            }
            for group in fleet.groups
        ],
        "retraces": [vars(each) for each in fleet.retraces],
        "never": fleet.never,
        "not_tested": [{"what": what, "gpus": count} for what, count in fleet.not_tested],
        "notes": fleet.notes,
    }
