"""`make bench`: what is wanted against what was measured, and the speed of a whole job; small real ones in tests/e2e/test_bench.py."""

from typing import Any

import pytest

from job.bench.machine import Machine
from tests.support.made_up import results
from tools.bench import jobs, plan, wanted

MACHINE: Machine = {"cpu": "EPYC", "cpus": 2, "cpu_flags": ["avx512_bf16"], "memory_bytes": 10**10, "gpus": [], "load": 0.0}


def once(value: float) -> dict[str, float]:
    return {"median": value, "least": value, "greatest": value}


def report(**changes: Any) -> dict[str, Any]:
    step = {"over_plain": once(1.1), "utilization": once(0.9), "images_per_second": once(80.0)}
    ours = {"images_per_second": once(78.0), "checkpoint_stall": once(0.002)}
    programs = {
        "torch bf16 ours": ours,
        "torch fp32 original": {"images_per_second": once(32.0)},
        "torch bf16 lightning": {"images_per_second": once(60.0)},
    }
    return {
        "plan": {"engines": ["torch"], "precisions": ["fp32", "bf16"]},
        "steps": {"torch fp32": step | {"over_plain": once(1.0)}, "torch bf16": step},
        "programs": programs,
        "first_step": {"torch": {"seconds": 7.5, "peak_host_memory_bytes": 2.3e9}},
        "objections": {},
    } | changes


def answers(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {row.figure: (row.measured, row.answer) for row in wanted.rows(found)}


def test_each_figure_is_held_against_what_is_wanted() -> None:
    found = answers(report())
    assert found.pop("make test, on 2 cores") == ("time it by itself", "–")
    assert found == {
        "torch, fp32: our bare step ÷ the plain step of a good user": ("1.00 (1.00 … 1.00)", "no"),
        "torch, bf16: our bare step ÷ the plain step of a good user": ("1.10 (1.10 … 1.10)", "yes"),
        "torch, bf16: our bare step's FLOP/s ÷ products of matrices": ("0.90 (0.90 … 0.90)", "no"),
        "torch, bf16: whole job, evaluation aside ÷ bare step": ("0.97", "yes"),
        "torch: our job (bf16) ÷ the original program (fp32)": ("2.44", "no"),
        "torch: our job ÷ Lightning, both bf16": ("1.30", "yes"),
        "torch: checkpoint stall, one in five minutes": ("0.20%", "yes"),
        "torch: command to first step, data on disk": ("7.5 s", "yes"),
        "torch: peak host memory, a dataset of CIFAR-10's size": ("2.30 GB", "no"),
    }
    lines = wanted.table([*wanted.rows(report())]).splitlines()
    assert next(line.split() for line in lines if "Lightning" in line)[-4:] == ["≥", "1.1", "1.30", "yes"]


def test_what_was_not_measured_has_no_answer() -> None:
    programs = {name: one for name, one in report()["programs"].items() if "lightning" not in name}
    found = answers(report(programs=programs, objections={"steps": "others used 40 %", "first_step": "others used 40 %"}))
    assert found["torch: our job ÷ Lightning, both bf16"] == ("not installed", "–")
    for figure in ("torch, bf16: our bare step ÷ the plain step of a good user", "torch, bf16: whole job, evaluation aside ÷ bare step"):
        assert found[figure] == ("the machine was not quiet", "–")
    assert found["torch: command to first step, data on disk"] == ("the machine was not quiet", "–")
    assert found["torch: peak host memory, a dataset of CIFAR-10's size"] == ("2.30 GB", "no"), "which neighbours do not change"
    assert answers(report(programs=None))["torch: checkpoint stall, one in five minutes"] == ("not measured", "–")


def test_a_checkpoint_costs_what_the_epoch_took_longer() -> None:
    """10 steps of 128 images: at 64 images/s 20 s; the epoch took 26 s without its evaluation, 3 s of it in the checkpoint."""
    seconds = {"start-up": 9.0, "step": 22.0, "data": 0.5, "other": 0.5, "evaluation": 7.0, "checkpoint stall": 3.0}
    run = results("r", batch_size=128)
    run.lines[:] = [
        {"kind": "epoch", "epoch": 1, "step": 10, "seconds": seconds},  # type: ignore[typeddict-item]
        {"kind": "interval", "epoch": 2, "step": 15, "images_per_second": 50.0},  # type: ignore[typeddict-item]
        {"kind": "interval", "epoch": 2, "step": 20, "images_per_second": 64.0},  # type: ignore[typeddict-item]
        {"kind": "epoch", "epoch": 2, "step": 20, "seconds": seconds},  # type: ignore[typeddict-item]
    ]
    found = jobs.speed(run)
    assert found["checkpoint_seconds"] == pytest.approx(6)
    assert found["checkpoint_stall"] == pytest.approx(0.01)
    assert found["images_per_second"] == pytest.approx(64 / 1.02)


def test_bf16_is_measured_where_it_is_in_the_hardware() -> None:
    assert plan.full(MACHINE).precisions == ("fp32", "bf16")
    assert plan.full({**MACHINE, "cpu_flags": ["avx512f"]}).precisions == ("fp32",)


def test_steps_fit_into_an_epoch() -> None:
    full = plan.full(MACHINE)
    assert full.steps(1.5, 15) == 10
    assert full.steps(100.0, 15) == full.least_steps
    assert full.steps(0.001, 15) * full.batch_size + 5 * full.batch_size <= full.images


def test_what_fails_is_said_and_left_out() -> None:
    said: list[str] = []
    with plan.reported(said.append):
        raise RuntimeError("no such program")
    assert said == ["failed: no such program"]
