"""A fleet of made-up verdicts: who is named, with which cause, and who is not."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job.acceptance.locate import Place
from job.acceptance.record import work
from job.cli.accept import accept
from job.cli.recipes import resolve
from job.core.acceptance_records import Verdict
from job.core.exits import Exit
from job.core.recipe import Recipe
from job.fleet.judgement import Fleet, Gpu, judge
from job.fleet.reading import Report
from job.fleet.text import text
from job.storage.folder import FolderStore
from tests.support.verdicts import PRODUCT, mode_result, started, verdict

STORE = FolderStore(Path("/nowhere"), "nowhere")


def report(number: int, found: Verdict | None, **changes: Any) -> Report:
    made = Report(store=STORE, name=f"uid-{number}", attempt="0002-abcdef", verdict=found, started=None)
    return replace(made, **changes)


def fleet_of(count: int, special: dict[int, Verdict] | None = None, **options: Any) -> Fleet:
    return judge([report(number, (special or {}).get(number) or verdict(number)) for number in range(count)], **options)


def bad(fleet: Fleet) -> dict[str, Gpu]:
    return {gpu.name: gpu for gpu in fleet.gpus if gpu.state != "pass"}


def test_a_good_fleet_is_accepted() -> None:
    fleet = fleet_of(64)
    assert bad(fleet) == {}
    assert fleet.exit_code == Exit.DONE
    assert len(fleet.groups) == 1
    assert [vote.source for vote in fleet.groups[0].votes] == ["the majority, 64 of 64"] * 2


def test_other_bytes_are_named_with_interval_and_tensor() -> None:
    wrong = verdict(3, wrong={"wrong_from": 4, "first": ["weights/features.6.weight", "slots/momentum/features.6.weight"]})
    fleet = fleet_of(8, {3: wrong})
    assert list(bad(fleet)) == ["uid-3"]
    (gpu,) = bad(fleet).values()
    assert (gpu.state, fleet.exit_code) == ("fail", Exit.DEVICE)
    assert gpu.reasons[0].what == (
        "bf16 and fp32: other bytes than the majority, 7 of 8, first in the interval that ends with step 50, weights/features.6.weight "
        "and 1 more of 21"
    )


def test_a_permanent_fault_is_named_by_its_first_operation() -> None:
    fleet = fleet_of(5, {0: verdict(0, wrong={"wrong_from": 0, "first": ["loss"], "operation": "activations/features.3"})})
    assert "first in step 1, activations/features.3" in bad(fleet)["uid-0"].reasons[0].what


def test_what_the_steps_tell_is_added() -> None:
    asked = []

    def locate(*words: str) -> Place:
        asked.append(words)
        return Place(47, "backward", "gradients/features.6.weight", 1)

    fleet = fleet_of(8, {3: verdict(3, wrong={"wrong_from": 4, "first": ["loss"]})}, locate=locate)
    assert "first in step 47, backward: gradients/features.6.weight" in bad(fleet)["uid-3"].reasons[0].what
    assert set(asked) == {("uid-3", "uid-0", "bf16"), ("uid-3", "uid-0", "fp32")}


def traced(number: int, step: int, **wrong: Any) -> Verdict:
    """Its operations are those of that step."""
    found = verdict(number, wrong=wrong)
    for mode in found["modes"]:
        mode["traced"] = step
    return found


@pytest.mark.parametrize(
    ("right", "deviant", "parted", "named"),
    [
        (1, 1, 47, "step 1, activations/features.3"),
        (47, 47, 47, "step 47, activations/features.3"),
        (47, 47, 12, "step 12, update: weights/features.3.weight"),  # whose operations are not known
        (1, 47, 47, "step 47, update: weights/features.3.weight"),
    ],
)
def test_an_operation_is_named_in_the_step_that_both_traced(right: int, deviant: int, parted: int, named: str) -> None:
    special = {number: traced(number, right, wrong_from=None) for number in range(4)}
    special[4] = traced(4, deviant, wrong_from=0, operation="activations/features.3")
    fleet = fleet_of(5, special, locate=lambda *_: Place(parted, "update", "weights/features.3.weight", 1))
    assert f"first in {named}" in bad(fleet)["uid-4"].reasons[0].what


def test_what_to_run_so_that_the_operation_of_a_later_step_is_named() -> None:
    """The commands do the same work as what they were made from."""
    recipe = Recipe(name="accept", width=0.125, flip=True, dropout=0.25, optimizer="adam", progressive_resizing="64:0.25 96:0.25")
    special = {number: verdict(number, work=work(recipe, 7, 50)) for number in range(5)}
    special[3] = verdict(3, work=work(recipe, 7, 50), wrong={"wrong_from": 4, "first": ["loss"]})
    fleet = fleet_of(5, special, locate=lambda *_: Place(47, "forward", "loss", 1))
    (again,) = fleet.retraces
    assert (again.gpu, again.right, again.step) == ("uid-3", "uid-0", 47)
    for command, uuid, name in ((again.there, "GPU-00000003", "deviant"), (again.on_the_right_one, "GPU-00000000", "right")):
        env, visible, alexnet, _, *words = shlex.split(command)
        assert (env, visible, alexnet) == ("env", f"CUDA_VISIBLE_DEVICES={uuid}", "alexnet")
        with accept.make_context("accept", words) as context:
            given = context.params
            assert work(resolve({**given, "recipe": "accept"}), given["seed"], given["steps"]) == special[3]["work"]
        asked = {"trace": 47, "rounds": 1, "run_id": name, "output": "nowhere/trace-uid-3", "engine": "torch", "device": "cuda"}
        assert {key: given[key] for key in asked} == asked
    assert again.then == "alexnet accept report nowhere/trace-uid-3 --reference nowhere/trace-uid-3/right"
    assert f"on node-000, index 3, GPU 3 (GPU-00000003):\n    {again.there}\n" in text(fleet)


def test_an_operation_that_is_named_is_not_looked_for_again() -> None:
    special = {3: verdict(3, wrong={"wrong_from": 0, "first": ["loss"], "operation": "logits"})}
    assert fleet_of(5, special, locate=lambda *_: Place(1, "forward", "loss", 1)).retraces == []


def wrong(number: int, who: str = "") -> Verdict:
    found = verdict(number, wrong={"wrong_from": 2, "first": ["loss"]})
    if who:
        found["modes"] = [mode_result(one["mode"], 9000.0, wrong_from=2, who=who) for one in found["modes"]]
    return found


@pytest.mark.parametrize(
    ("bytes_", "states", "source"),
    [
        ("a", ["pass"], "one GPU, which has nobody to differ from"),
        ("ab", ["suspect", "suspect"], "no majority: no two of 2 agree"),
        ("aab", ["pass", "pass", "fail"], "the majority, 2 of 3"),
        ("abc", ["suspect"] * 3, "no majority: no two of 3 agree"),
        ("aabb", ["suspect"] * 4, "no majority: at most 2 of 4 agree"),
        ("aabbc", ["suspect"] * 5, "no majority: at most 2 of 5 agree"),
        ("aaabc", ["pass"] * 3 + ["fail"] * 2, "the majority, 3 of 5"),
    ],
)
def test_majorities(bytes_: str, states: list[str], source: str) -> None:
    special = {number: wrong(number, letter) for number, letter in enumerate(bytes_) if letter != "a"}
    fleet = fleet_of(len(bytes_), special)
    by_name = {gpu.name: gpu.state for gpu in fleet.gpus}
    assert [by_name[f"uid-{number}"] for number in range(len(bytes_))] == states
    assert {vote.source for vote in fleet.groups[0].votes} == {source}


def test_a_reference_outvotes_the_majority() -> None:
    special = {number: wrong(number, "b") for number in range(3)}
    good = report(9, verdict(9), name="known-good")
    fleet = fleet_of(4, special, reference=good)
    assert set(bad(fleet)) == {"uid-0", "uid-1", "uid-2"}
    assert "other bytes than the reference known-good" in bad(fleet)["uid-0"].reasons[0].what


def test_a_reference_of_another_kind_says_so() -> None:
    good = report(9, verdict(9, group={"gpu": "another"}), name="known-good")
    fleet = fleet_of(4, {0: wrong(0)}, reference=good)
    assert set(bad(fleet)) == {"uid-0"}
    assert any("known-good decides nothing" in note for note in fleet.notes)


def test_other_drivers_are_other_groups() -> None:
    def other(number: int) -> Verdict:
        found = wrong(number, "b")
        found["group"] = {**found["group"], "driver": "590.2"}
        return found

    fleet = fleet_of(9, {number: other(number) for number in range(4)})
    assert bad(fleet) == {}
    assert [(group.label, len(group.gpus)) for group in fleet.groups] == [
        (f"{PRODUCT}, torch, driver 580.1", 5),
        (f"{PRODUCT}, torch, driver 590.2", 4),
    ]
    assert any("fewer than 5 GPUs" in sentence and count == 4 for sentence, count in fleet.not_tested)


def test_digests_that_prove_nothing_are_compared_with_none() -> None:
    found = wrong(2)
    found["reproducible"] = False
    fleet = fleet_of(6, {2: found})
    assert "uid-2" not in bad(fleet)
    assert ("bytes against others: an operation without a deterministic kernel was used", 1) in fleet.not_tested


SLOW_CAUSES: dict[str, tuple[dict[str, Any], str]] = {
    "thermal": ({"throttled": {"power_cap": 0.3, "hardware_thermal": 0.6}}, "clocks held back by hardware thermal 60% of the time"),
    "pcie": (
        {"pcie": {"generation": 3, "width": 8, "generation_max": 5, "width_max": 16}, "throttled": {}},
        "PCIe 3 ×8, expected PCIe 5 ×16",
    ),
    "clock": ({"sm_clock_mhz": {"median": 1200.0, "least": 1200.0, "greatest": 1200.0}}, "clock of the multiprocessors 1,200 MHz"),
    "quota": (
        {"container_throttled_seconds": 300.0, "container_cpu_limit_cores": 0.25},
        "the container's quota of 0.25 CPUs held its threads back 0.6 s",
    ),
    "unknown": ({}, "no cause among what was recorded"),
}


@pytest.mark.parametrize("case", SLOW_CAUSES)
def test_a_straggler_and_its_likely_cause(case: str) -> None:
    load, cause = SLOW_CAUSES[case]
    slow = verdict(5, pace=0.7)
    slow["load"] = {**slow["load"], **load}  # type: ignore[typeddict-item]
    fleet = fleet_of(16, {5: slow})
    (gpu,) = bad(fleet).values()
    assert (gpu.name, gpu.state, fleet.exit_code) == ("uid-5", "suspect", Exit.DEVICE)
    (reason,) = gpu.reasons
    assert reason.what.startswith("images/s, bf16 6,")
    assert cause in reason.cause


def test_hot_and_narrow() -> None:
    hot, narrow = verdict(1), verdict(2)
    hot["load"]["temperature_celsius"]["greatest"] = 95.0
    assert narrow["bandwidth"]
    narrow["bandwidth"]["host_to_device_bytes_per_second"] = 1.2e10
    found = bad(fleet_of(100, {1: hot, 2: narrow}))
    assert set(found) == {"uid-1", "uid-2"}
    assert found["uid-1"].reasons[0].what.startswith("temperature 95 °C (median 6")
    assert found["uid-2"].reasons[0].what.startswith("host to device 12 GB/s (median ")


def test_its_own_verdict_counts() -> None:
    told = [
        {"check": "memory", "level": "fail", "what": "3 words came back otherwise."},
        {"check": "ECC", "level": "pass", "what": "None."},
    ]
    fleet = fleet_of(8, {4: verdict(4, verdict="fail", evidence=told), 5: verdict(5, verdict="suspect", evidence=[])})
    found = bad(fleet)
    assert [reason.what for reason in found["uid-4"].reasons] == ["memory: 3 words came back otherwise"]
    assert [reason.what for reason in found["uid-5"].reasons] == ["its own verdict, without evidence"]
    assert [gpu.name for gpu in fleet.gpus[:2]] == ["uid-4", "uid-5"]


def test_a_gpu_whose_engine_did_not_start_is_in_no_group() -> None:
    told = [{"check": "process", "level": "fail", "what": "its process ended with code -11."}]
    broken = verdict(4, verdict="fail", evidence=told, group={}, modes=[], load={}, bandwidth=None, memory=None, environment=None)
    fleet = fleet_of(8, {4: broken})
    (gpu,) = bad(fleet).values()
    assert (gpu.name, gpu.group, gpu.state) == ("uid-4", None, "fail")
    assert [len(group.gpus) for group in fleet.groups] == [7]


def test_who_did_not_report_is_named() -> None:
    reports = [report(number, verdict(number, of=5)) for number in range(2)]
    reports.append(report(2, None, started=started(2, of=5), trouble="it was begun, and there is no verdict"))
    reports.append(report(3, None, trouble="s3://b/uid-3/0001-abcdef/verdict.json is damaged"))
    fleet = judge(reports, expect=6)
    found = bad(fleet)
    assert {name: gpu.state for name, gpu in found.items()} == {"uid-2": "missing", "uid-3": "missing"}
    assert found["uid-2"].node == "node-000"
    assert "is damaged" in found["uid-3"].reasons[0].what
    assert fleet.never == ["index 4 of 5 of the Job uid", "2 of the 6 GPUs that --expect names"]
    assert fleet.exit_code == Exit.NOT_STORED


def test_what_is_bad_weighs_more_than_what_is_missing() -> None:
    fleet = judge([*(report(number, verdict(number)) for number in range(5)), report(5, wrong(5)), report(6, None)])
    assert fleet.exit_code == Exit.DEVICE


def before(number: int, **changes: Any) -> Report:
    """An attempt that came before."""
    return replace(report(number, None), attempt="0001-aaaaaa", **changes)


def test_an_evicted_gpu_that_ran_again_on_the_same_gpu() -> None:
    reports = [report(number, verdict(number)) for number in range(6)]
    reports[1] = replace(reports[1], earlier=(before(1, started=started(1)),))
    fleet = judge(reports)
    assert (bad(fleet), fleet.never, fleet.exit_code) == ({}, [], Exit.DONE)
    assert fleet.notes == ["Begun more than once: uid-1."]


def test_an_evicted_gpu_that_ran_again_elsewhere_is_not_tested() -> None:
    reports = [report(number, verdict(number)) for number in range(6)]
    reports[1] = replace(reports[1], earlier=(before(1, started=started(77)),))
    fleet = judge(reports)
    assert fleet.never == ["GPU 5 (GPU-0000004d) of node-009, where a test was begun"]
    assert fleet.exit_code == Exit.NOT_STORED


def test_a_cpu_that_was_begun_twice_is_missed_once() -> None:
    """It has no uuid by which it could be told from another one."""
    cpu = started(0, gpu={**started(0)["gpu"], "uuid": ""})
    reports = [report(0, None, started=cpu, earlier=(before(0, started=cpu),)), *(report(n, verdict(n)) for n in range(1, 6))]
    fleet = judge(reports)
    assert (list(bad(fleet)), fleet.never) == (["uid-0"], [])


def test_what_failed_once_does_not_pass_by_another_try() -> None:
    reports = [report(number, verdict(number)) for number in range(6)]
    reports[1] = replace(reports[1], earlier=(before(1, verdict=verdict(1, verdict="fail")),))
    (gpu,) = bad(judge(reports)).values()
    assert (gpu.state, gpu.reasons[0].what) == ("suspect", "its attempt 0001-aaaaaa failed; after a repair, test it below another place")


def test_gpus_that_were_tested_twice() -> None:
    twice = verdict(3)
    twice["gpu"]["uuid"] = "GPU-00000002"
    notes = judge([*(report(number, verdict(number)) for number in range(3)), report(3, twice)]).notes
    assert "another GPU may not have been tested at all: GPU-00000002" in notes[0]


def test_what_was_not_tested_is_said() -> None:
    told = dict(fleet_of(7).not_tested)
    assert told["NVLink: one GPU is visible"] == 7


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_small_fleet_is_judged_by_its_bytes_alone(count: int) -> None:
    fleet = fleet_of(count, {0: verdict(0, pace=0.5)})
    assert bad(fleet) == {}
    assert any("fewer than 5 GPUs" in sentence for sentence, _ in fleet.not_tested)
