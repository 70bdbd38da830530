"""Programs that take turns, as real processes."""

import sys

import pytest

from job.bench.turns import Contestant, Stages
from job.core.exits import Exit, JobError

PROGRAM = """
import sys
from job.bench.turns import replies, serve
from job.core.exits import Exit, JobError

def count(number):
    print("a framework prints what it likes")
    if number == 13:
        raise JobError(Exit.DEVICE, "the GPU is gone")
    if number == 14:
        sys.exit("broken")
    return {"twice": 2 * number}

with replies() as reply:
    reply({"name": "doubler"})
    serve({"count": count}, reply)
"""


def contestant(program: str) -> Contestant:
    return Contestant("doubler", [sys.executable, "-c", program])


def test_a_program_works_when_it_is_its_turn_only() -> None:
    with contestant(PROGRAM) as first, contestant(PROGRAM) as second:
        assert first.facts == {"name": "doubler"}
        assert [first.take("count", 1), second.take("count", 2), first.take("count", 3)] == [{"twice": 2}, {"twice": 4}, {"twice": 6}]
        assert first.peak_host_memory > 5_000_000


def test_an_error_of_ours_keeps_its_code_and_another_one_its_last_line() -> None:
    with contestant(PROGRAM) as program, pytest.raises(JobError, match="the GPU is gone") as raised:
        program.take("count", 13)
    assert raised.value.code is Exit.DEVICE
    with contestant(PROGRAM) as program, pytest.raises(JobError, match=r"doubler: ended with code 1 \(broken\)") as raised:
        program.take("count", 14)
    assert raised.value.code is Exit.INTERNAL
    with pytest.raises(JobError, match="no such thing"), contestant("raise SystemExit('no such thing')"):
        pass


def test_stages_add_up_to_the_age_of_the_process() -> None:
    stages = Stages()
    stages.end("framework")
    stages.end("network")
    assert [*stages.seconds] == ["framework", "network"]
    assert stages.seconds["framework"] > 0.05 > stages.seconds["network"] >= 0
