"""Figures and the page, of turns that were made up."""

import pytest

from job.bench.contest import Setup, figures
from job.bench.figures import Report, ratio, spread
from job.bench.page import page
from job.bench.turns import Contestant
from job.core.recipe import Recipe

RECIPE = Recipe(batch_size=10, image_size=64, width=0.25)
SETUP = Setup(recipe=RECIPE, engines=("torch",), device="auto", threads=1, turns=3, steps=2, size=512)


class Ended(Contestant):
    """One whose process is gone."""

    def __init__(self, device: str) -> None:
        self.facts = {
            "environment": {"engine": "torch", "device": device, "torch": "2.14.1"},
            "precision": "bf16",
            "first_step": {"framework": 3.0, "network": 1.0, "step": 2.5},
        }
        self.peak_host_memory = 2_000_000_000


def report(*, device: str = "cpu", objection: str | None = None) -> Report:
    flop = RECIPE.architecture().flop * 10
    turns = [
        (
            {"seconds": 1.0, "cpu_seconds": 1.0, "flop_per_second": 2 * flop},
            {"seconds": s, "cpu_seconds": s, "wall_seconds": s, "peak_gpu_memory_bytes": None},
        )
        for s in (1.0, 0.5, 2.0)
    ]
    profile = {"kernels": [("convolution", 0.6), ("copy", 0.2)], "seconds": 1.0}
    engine = figures(Ended(device), SETUP, turns, profile, quiet=objection is None)
    machine = {"cpu": "AMD EPYC", "cpus": 2, "cpu_flags": ["avx2"], "memory_bytes": 25 * 10**9, "gpus": [], "load": 0.1}
    return {
        "machine": machine,
        "others": 0.01,
        "objection": objection,
        "recipe": RECIPE.as_dict(),
        "turns": 3,
        "steps": 2,
        "engines": [engine],
    }


def test_ratios_are_of_turns_that_followed_one_another() -> None:
    """A machine that gets slower slows both sides."""
    assert ratio([10, 20, 40], [5, 10, 20]) == {"median": 2, "least": 2, "greatest": 2}
    assert spread([3, 1, 2]) == {"median": 2, "least": 1, "greatest": 3}


def test_the_page_of_a_quiet_machine() -> None:
    told = page(report())
    assert "utilisation, their ratio   0.50 (0.25 … 1.00)" in told
    assert "images/s                   10.0 (5.0 … 20.0)" in told
    assert "command to first step      6.5 s: framework 3.0, network 1.0, step 2.5" in told
    assert "75.0 %  convolution" in told
    assert "nothing ran" not in told


def test_no_ratio_where_others_worked() -> None:
    found = report(objection="others used 40% of the CPUs")
    assert found["engines"][0]["utilization"] is None
    assert page(found).endswith("others used 40% of the CPUs")
    assert "utilisation, their ratio   –" in page(found)


def test_gaps_of_a_gpu() -> None:
    found = report(device="H100")
    assert found["engines"][0]["gpu_idle"] == pytest.approx(0.2)
    assert "where the device's time goes; nothing ran for 20.0 % of the time" in page(found)
