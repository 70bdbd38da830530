"""`alexnet bench`, small, with both engines."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from job.bench.page import page
from tests.support.commands import alexnet, environment

SMALL = ("--quick", "--image-size", "64", "--width", "0.0625", "--batch-size", "16")


def test_both_engines_in_turn() -> None:
    result = alexnet("bench", *SMALL, "--json", "--set", "precision=fp32")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [(engine["engine"], engine["precision"]) for engine in found["engines"]] == [("torch", "fp32"), ("tensorflow", "fp32")]
    assert (found["objection"] is None) is (found["others"] <= 0.05)
    for engine in found["engines"]:
        assert (engine["utilization"] is None) is (found["objection"] is not None)
        speed = engine["images_per_second"]
        assert 0 < speed["least"] <= speed["median"] <= speed["greatest"]
        assert speed["greatest"] == pytest.approx(16 / engine["step_seconds"]["least"])
        assert engine["cpu_seconds"]["median"] > 0
        assert engine["product_flop_per_second"]["median"] > 1e8
        assert engine["peak_host_memory_bytes"] > 3e8
        assert engine["peak_gpu_memory_bytes"] is None
        assert all(seconds > 0 for seconds in engine["first_step"].values())
    torch, tensorflow = found["engines"]
    for engine, convolution in ((torch, "convolution"), (tensorflow, "Conv2D")):
        assert any(convolution in name for name, _ in engine["kernels"])
        assert 0.5 < sum(share for _, share in engine["kernels"]) <= 1.001  # the ten longest
    assert "command to first step" in page(found)


def test_a_gpu_that_is_not_there() -> None:
    result = alexnet("bench", *SMALL, "--engine", "torch", "--device", "cuda")
    assert result.returncode in (71, 78)
    assert "--device cuda" in result.stderr
    assert "Traceback" not in result.stderr


def bench(tmp_path: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench", "--quick", "--json", str(tmp_path / "bench.json"), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert result.returncode == 0, result.stderr
    assert "failed" not in result.stderr, result.stderr
    assert "make test, on 2 cores" in result.stdout
    found: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text())
    return found


def test_the_way_to_the_first_step(tmp_path: Path) -> None:
    found = bench(tmp_path, "--engine", "torch", "first_step")
    one = found["first_step"]["torch"]
    assert one["seconds"] == pytest.approx(one["imports"] + one["data"] + one["compile"])
    assert min(one["imports"], one["data"], one["compile"]) > 0
    assert one["peak_host_memory_bytes"] > 3e8
    assert [*found["others"]] == ["first_step"]


def test_two_workers_beside_one(tmp_path: Path) -> None:
    found = bench(tmp_path, "--engine", "torch", "workers")
    one = found["workers"]["torch"]
    assert one["pair_over_one"]["median"] == pytest.approx(one["step_seconds"]["median"] / one["pair_step_seconds"]["median"], rel=0.9)
    assert 0 < one["exchange_share"]["least"] <= one["exchange_share"]["greatest"] < 1
    assert 0 < one["agreement_seconds"]["median"] < one["comparison_seconds"]["median"] < 1
    assert [*one["shards_over_one"]] == ["2", "4", "8"]
    assert all(cost["least"] > 0 for cost in one["shards_over_one"].values())
    assert one["pair_peak_host_memory_bytes"] > one["peak_host_memory_bytes"] > 3e8


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "tensorflow"])
def test_everything_that_make_bench_measures(engine: str, tmp_path: Path) -> None:
    found = bench(tmp_path, "--engine", engine)
    step, original = found["steps"][f"{engine} fp32"], found["programs"][f"{engine} fp32 original"]
    ours = found["programs"][f"{engine} fp32 ours"]
    assert step["over_plain"]["median"] == pytest.approx(
        step["images_per_second"]["median"] / step["plain_images_per_second"]["median"], rel=0.5
    )
    for one in (ours, original):
        assert one["images_per_second"]["median"] > 0
        assert one["cpu_seconds_per_image"]["median"] > 0
    assert 0 < ours["checkpoint_stall"]["median"] < 0.1
    assert found["stores"]["runs"]["runs"] == 40
    assert found["workers"][engine]["exchange_share"]["median"] > 0
