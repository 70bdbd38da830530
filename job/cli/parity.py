"""`alexnet parity`."""

import json
import math
from typing import TYPE_CHECKING

import click

from job.cli import options
from job.core.exits import Exit, JobError

if TYPE_CHECKING:
    from job.parity.compare import Parity
    from job.parity.difference import Difference
    from job.parity.tracefile import Trace

FAILED = 1
WORDS = {
    "initial": "the initial weights of {}",
    "inputs": "the images after crop and flip",
    "evaluation": "the test logits",
    "masks": "the dropout mask of {}",
    "activations": "the output of {}",
    "logits": "the logits",
    "hits": "the count of hits",
    "cross-entropy": "the loss of its own logits",
    "loss": "the loss",
    "gradients": "the gradient of {}",
    "update": "the update of {} by its own gradients",
    "slots": "the optimiser's {}",
    "weights": "the new weights of {}",
    "loaded": "{} after saving and loading",
}


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KIND=VALUE",
    help="Replace a limit, such as logits=1e-6 or gradients/features.0=0.1; may be repeated.",
)
@options.as_json
def parity(a: str, b: str, limits: tuple[str, ...], as_json: bool) -> int:
    """Compare two traces, A and B (files or s3://…), layer by layer; the exit code is 1 if they differ by more than rounding.

    Inputs, initial weights and dropout masks must be equal to the bit.  fp64: everything else within 1e-11 of the largest value of
    its tensor, at every step (weights under Adam 1e-8).  fp32, at step 0: activations, logits and loss 5e-6, gradients 1e-2 of their norm.
    bf16, at step 0: 2e-2 of the norm, gradients 1e-1.  In each trace alone, at every observed step: hits, loss and update (1e-5, in fp64
    1e-11) follow from its own logits and gradients, and weights and optimiser state survive saving and loading.
    """
    from job.parity.compare import compare
    from job.parity.tracefile import opened

    with opened(a) as one, opened(b) as other:
        found = compare(one, other, _limits(limits))
        if as_json:
            click.echo(json.dumps({"a": _facts(one), "b": _facts(other), **found.as_dict()}, indent=1, allow_nan=False))
        else:
            click.echo(report(found, one, other))
    return FAILED if found.failure else Exit.DONE


def report(found: "Parity", one: "Trace", other: "Trace") -> str:
    """Title, table and verdict."""
    recipe = one.facts["recipe"]
    title = (
        f"a  {one.url}: {_engine(one)}\nb  {other.url}: {_engine(other)}\n"
        f"recipe {recipe['name']} in {recipe['precision']}, seed {one.facts['seed']}, {one.facts['steps']} steps, "
        f"in full at {', '.join(map(str, one.facts['at']))}\n"
    )
    verdict = [f"first difference:   {described(found.first)}" if found.first else "equal to the bit"]
    if found.failure:
        verdict.append(f"first beyond limit: {described(found.failure)}, limit {found.failure.limit:.0e}")
    elif found.first:
        verdict.append("all within the limits")
    return "\n".join([title, *table(found, one), "", *verdict])


def table(found: "Parity", one: "Trace") -> list[str]:
    """One line for each layer, in network order: its largest relative difference over all observed steps."""
    from job.parity.compare import BY_NORM, KINDS, WHOLE

    layers = list(dict.fromkeys(d.layer for d in found.differences if d.kind in (*WHOLE, "activations")))
    kinds = [kind for kind in KINDS if kind not in WHOLE]
    lines = [f"{'layer':<20}" + "".join(f"{kind:>13}" for kind in kinds)]
    for layer in layers:
        if layer in WHOLE:
            lines.append(f"{layer:<20}{_cell(found.worst(layer, layer)):>13}  limit {_limit(found.limits.get(layer))}")
        else:
            lines.append(f"{layer:<20}" + "".join(f"{_cell(found.worst(layer, kind)):>13}" for kind in kinds))
    lines.append(f"{'limit':<20}" + "".join(f"{_limit(found.limits.get(kind)):>13}" for kind in kinds))
    precision = str(one.facts["recipe"]["precision"])
    normed = ", ".join(kind for kind in KINDS if kind in BY_NORM[precision])
    of = "over the largest value of the tensor" + (f" ({normed}: over the norm)" if normed else "")
    return [*lines, f"relative difference, the worst of the steps that are judged, {of}; = equal to the bit, ! beyond the limit"]


def described(difference: "Difference") -> str:
    """What differs, when, and by how much."""
    when = "before the first step" if difference.step < 0 else f"at step {difference.step}"
    what = f"{difference.trace} alone: " * bool(difference.trace) + WORDS[difference.kind].format(difference.name or "the test logits")
    if difference.note:
        return f"{what} {when}: {difference.note}"
    return f"{what} {when}: {difference.absolute:.2g} absolute, {difference.relative:.2g} relative, {difference.ulp:.3g} ULP"


def _cell(difference: "Difference | None") -> str:
    if difference is None:
        return ""
    number = f"{difference.relative:.1e}" if math.isfinite(difference.relative) else "differs"
    return ("! " if difference.fails else "") + (number if difference.relative else "=")


def _limit(limit: float | None) -> str:
    return "none" if limit is None else f"{limit:.0e}" if limit else "="


def _engine(trace: "Trace") -> str:
    found = trace.facts["environment"]
    version = found.get("torch") or found.get("tensorflow")
    return f"{found['engine']} {version} on {found['device']}, threads {trace.facts['threads']}"


def _facts(trace: "Trace") -> dict[str, object]:
    return {"url": trace.url, **{key: value for key, value in trace.facts.items() if key not in ("hits", "digests")}}


def _limits(pairs: tuple[str, ...]) -> dict[str, float]:
    """Raises JobError (2), naming the pair."""
    from job.parity.compare import KINDS

    found = {}
    for pair in pairs:
        kind, _, value = pair.partition("=")
        try:
            found[kind] = float(value)
        except ValueError:
            found[kind] = math.nan
        if kind.partition("/")[0] not in KINDS or not found[kind] >= 0:
            raise JobError(
                Exit.USAGE,
                f"--limit {pair}: expected KIND=NUMBER or KIND/LAYER=NUMBER, the kind one of {', '.join(KINDS)}, the number at least 0.",
            )
    return found
