"""What measurements make of a GPU."""

from typing import Any

import pytest

from job.acceptance.judgement import of_doctor, of_measurements, sorted_evidence, untested, verdict
from job.doctor.page import Line
from tests.unit.acceptance.facts import measured, mode

DEVIATION = {"round": 3, "step": 41, "place": "backward", "tensor": "gradients/features.3.weight", "tensors": 12, "again": False}


def judged(**changes: Any) -> tuple[str, list[str]]:
    found = list(of_measurements(measured(**changes)))
    worst = verdict(found)
    return worst, [one["what"] for one in found if one["level"] == worst]


def test_a_sound_gpu_passes_and_every_check_says_why():
    found = list(of_measurements(measured()))
    assert verdict(found) == "pass"
    assert {one["check"] for one in found} == {"rounds in bf16", "rounds in fp32", "memory", "ECC", "PCIe", "NVLink"}


@pytest.mark.parametrize(
    ("level", "words", "changes"),
    [
        ("fail", "1 of 5 rounds parted", {"modes": [mode(deviant_rounds=1, deviations=[DEVIATION])]}),
        ("fail", "step 41, backward, at gradients/features.3.weight", {"modes": [mode(deviant_rounds=1, deviations=[DEVIATION])]}),
        ("fail", "3 words came back wrong of 0.13 GB", {"memory": {"bytes": 1 << 27, "patterns": 5, "wrong_words": 3}}),
        ("fail", "1 errors of memory that could not be corrected", {"after": {"ecc": {"corrected": 2, "uncorrected": 1}}}),
        ("fail", "could not be replaced", {"after": {"ecc": {"remapping_failed": True}}}),
        ("fail", "stopped answering", {"load": {"lost": True}}),
        ("suspect", "1 corrected errors", {"after": {"ecc": {"corrected": 3, "uncorrected": 0}}}),
        ("suspect", "waits for a reset", {"after": {"ecc": {"remapping_pending": True}}}),
        ("suspect", "width 8 of 16 lanes under load", {"load": {"pcie": {"width": 8, "width_max": 16}}}),
        ("suspect", "generation 3 of 5 under load", {"load": {"pcie": {"generation": 3, "generation_max": 5}}}),
        ("suspect", "2 packets", {"after": {"pcie": {"replays": 2}}}),
        ("suspect", "17 of 18 links are up", {"after": {"nvlink": {"links": 18, "active": 17, "errors": 0}}}),
        ("suspect", "18 of 18 links are up, 4 errors", {"after": {"nvlink": {"links": 18, "active": 18, "errors": 4}}}),
        (
            "suspect",
            "too hot: hardware_thermal in 25% of the samples",
            {"load": {"throttled": {"hardware_thermal": 0.25, "power_cap": 1.0}}},
        ),
        ("suspect", "no deterministic kernel for cumsum", {"nondeterministic": ["cumsum"]}),
        ("suspect", "not finite", {"modes": [mode(last_loss=None)]}),
    ],
)
def test_what_is_wrong_is_named(level, words, changes):
    worst, reasons = judged(**changes)
    assert worst == level
    assert any(words in reason for reason in reasons), reasons


def test_what_it_counted_before_is_not_counted_again():
    counters = {"ecc": {"corrected": 7, "uncorrected": 3, "remapped_uncorrected": 1}, "pcie": {"replays": 9}}
    assert judged(before=counters, after=counters)[0] == "pass"


def test_a_limit_of_power_is_common():
    assert judged(load={"throttled": {"power_cap": 1.0}})[0] == "pass"


def test_the_node_makes_its_gpus_suspect_at_most():
    lines = [Line(check="memory", level="fail", reason="too little"), Line(check="gpu", level="warn", reason="none")]
    assert verdict(of_doctor(lines)) == "suspect"
    assert next(iter(sorted_evidence([*of_measurements(measured()), *of_doctor(lines)])))["level"] == "suspect"


def test_what_was_not_tested_is_said():
    said = " ".join(untested(measured(after={}, modes=[mode(rounds=1)]), "too little is free", gpu=True))
    for words in ("TF32", "Repetition in bf16", "too little is free", "ECC counters", "PCIe", "NVLink:", "collectives"):
        assert words in said
    assert "by a CPU" in " ".join(untested(measured(), "", gpu=False))
    assert "NVLink:" not in " ".join(untested(measured(), "", gpu=True))
