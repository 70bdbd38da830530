"""`make bench`: everything below in one run of less than 20 minutes on two cores; a table for people and JSON for programs.

python -m tools.bench                          everything
python -m tools.bench steps first_step         some parts: steps, programs, workers, first_step, stores
python -m tools.bench --quick --engine torch   small, to see whether it works
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from job.analysis.formatting import columns, percent
from job.bench.machine import Machine, Neighbours, describe, objection
from job.bench.page import machine_text
from job.telemetry.cgroup import usable_cpus
from tools.bench import jobs, steps, stores, workers
from tools.bench.plan import ENGINES, Clock, Plan, full, quick, reported
from tools.bench.wanted import rows, table

PARTS = ("steps", "programs", "workers", "first_step", "stores")
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="; ".join(PARTS))
    parser.add_argument("--engine", action="append", choices=ENGINES, help="default: both")
    parser.add_argument("--quick", action="store_true", help="small; its figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also store everything there")
    words = parser.parse_args()
    if unknown := {*words.parts} - {*PARTS}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}. Expected {', '.join(PARTS)}")
    machine, engines = describe(), words.engine or ENGINES
    plan = quick(engines) if words.quick else full(machine, engines)
    report: Found = {}
    for report in measure(plan, machine, words.parts or PARTS):
        if words.json:  # after each part, so that nothing is lost if the next one is stopped
            words.json.write_text(json.dumps(report, indent=1) + "\n")
    print(page(report))


def measure(plan: Plan, machine: Machine, parts: Sequence[str]) -> Iterator[Found]:
    """The report, as far as it has come, after each part."""
    clock, threads = Clock(), usable_cpus()
    report: Found = {"machine": machine, "plan": asdict(plan), "threads": threads, "others": {}, "objections": {}}

    def say(line: str) -> None:
        print(f"{clock} {line}", file=sys.stderr, flush=True)

    def pace() -> dict[str, float]:
        return {name: found["step_seconds"]["median"] for name, found in report.get("steps", {}).items()}

    with jobs.random_data(plan) as data:
        actions: dict[str, Callable[[], Found]] = {
            "steps": lambda: steps.measure(plan, threads, say),
            "programs": lambda: jobs.measure(plan, threads, pace(), data, say),
            "workers": lambda: workers.measure(plan, threads, say),
            "first_step": lambda: jobs.first_steps(plan, data, say),
            "stores": lambda: stores.measure(plan, say),
        }
        for name in (name for name in actions if name in parts):
            with Neighbours() as neighbours, reported(say):
                report[name] = actions[name]()
            report["others"][name] = neighbours.share
            report["objections"][name] = objection(neighbours.share, gpu=bool(machine["gpus"]))
            yield report | {"seconds": clock.seconds}


def page(report: Found) -> str:
    plan = report["plan"]
    others = ", ".join(f"{percent(share)} ({part})" for part, share in report["others"].items())
    lines = [
        machine_text(report["machine"]),
        f"{plan['image_size']} px, batch {plan['batch_size']}, {report['threads']} threads; {report['seconds'] / 60:.0f} minutes",
        f"others used of the CPUs: {others}",
        "",
        columns(figures(report)),
        "",
        table([*rows(report)]),
    ]
    return "\n".join(lines)


def figures(report: Found) -> list[list[str]]:
    """Each as median (least … greatest); quotients with a wish stand in the other table."""
    found = [["", "images/s", "CPU time of an image", "peak host memory"]]
    for name, one in report.get("steps", {}).items():
        for which, label in (("", "our bare step"), ("plain_", "plain step")):
            cpu = {key: value / report["plan"]["batch_size"] for key, value in one[f"{which}cpu_seconds"].items()}
            memory = f"{one[f'{which}peak_host_memory_bytes'] / 1e9:.2f} GB"
            found.append([f"{name}: {label}", _spread(one[f"{which}images_per_second"]), _milliseconds(cpu), memory])
    for name, one in report.get("programs", {}).items():
        memory = f"{one['peak_host_memory_bytes']['greatest'] / 1e9:.2f} GB"
        found.append([f"{name}, whole", _spread(one["images_per_second"]), _milliseconds(one["cpu_seconds_per_image"]), memory])
    for name, one in report.get("steps", {}).items():
        peak = {key: value / 1e9 for key, value in one["product_flop_per_second"].items()}
        found.append([f"{name}: products of matrices", f"{_spread(peak)} GFLOP/s", "", ""])
    for engine, one in report.get("workers", {}).items():
        memory = f"{one['pair_peak_host_memory_bytes'] / 1e9:.2f} GB"
        found.append([f"{engine}: two workers ÷ one with all threads", _quotient(one["pair_over_one"]), "", memory])
        found.append([f"{engine}: exchange's share of a step of two workers", _quotient(one["exchange_share"]), "", ""])
        found.append([f"{engine}: an agreement of two workers, one a step", _milliseconds(one["agreement_seconds"]), "", ""])
        found.append([f"{engine}: a comparison of their weights, one a checkpoint", _milliseconds(one["comparison_seconds"]), "", ""])
        for shards, cost in one["shards_over_one"].items():
            found.append([f"{engine}: a step of {shards} shards ÷ of one, one worker", _quotient(cost), "", ""])
    for engine, one in report.get("first_step", {}).items():
        stages = ", ".join(f"{stage} {one[stage]:.1f} s" for stage in ("imports", "data", "compile"))
        found.append(
            [f"{engine}: command to first step", f"{one['seconds']:.1f} s: {stages}", "", f"{one['peak_host_memory_bytes'] / 1e9:.2f} GB"]
        )
    if runs := report.get("stores", {}).get("runs"):
        found.append([f"alexnet runs, {runs['runs']} runs", f"{runs['seconds']:.2f} s", f"{runs['cpu_seconds']:.2f} s in all", ""])
    for name, value in report.get("stores", {}).get("checkpoint", {}).items():
        found.append([f"checkpoint: {name.replace('_', ' ')}", f"{value:.0f}", "", ""])
    return found


def _spread(found: Found) -> str:
    return f"{found['median']:.1f} ({found['least']:.1f} … {found['greatest']:.1f})"


def _quotient(found: Found) -> str:
    return f"{found['median']:.2f} ({found['least']:.2f} … {found['greatest']:.2f})"


def _milliseconds(found: Found) -> str:
    return f"{1e3 * found['median']:.2f} ms"


if __name__ == "__main__":
    main()
