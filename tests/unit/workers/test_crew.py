"""What workers agree on: who they are, what comes next, whose weights are wrong, and who is told why another one left."""

import time

import numpy as np
import pytest

from job.core.exits import Exit, JobError
from job.workers.crew import Call, Crew, Leader
from tests.support.threads import together


class Signal:
    """As a StopSignal without handlers."""

    def __init__(self, number=0):
        self.number = number

    def note(self, number):
        self.number = self.number or number


def crew_of(exchange, number=0):
    return Crew(exchange, Signal(number))


def test_texts_of_any_length_reach_all():
    words = ["", "one", "zwölf Wörter", "x" * 1001]
    found = together(4, lambda exchange: crew_of(exchange).gather_texts(words[exchange.place.rank]))
    assert found == [words] * 4


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_are_spread_bit_by_bit(kind):
    """Minus zero and the payload of a NaN among them, which a sum of numbers would lose."""
    odd = np.array([-0.0, np.nan, 1e-310, -np.inf], kind)
    odd.view(np.uint8)[-1] ^= 0x80
    found = together(2, lambda exchange: crew_of(exchange).spread(odd if exchange.place.leads else np.zeros_like(odd)))
    assert {array.tobytes() for array in found} == {odd.tobytes()}


def test_a_refusal_is_everybodys_with_the_rank():
    refusal = JobError(Exit.CONFIGURATION, "run r is already there with another configuration.")

    def introduce(exchange):
        return crew_of(exchange).introduce({"host": f"h{exchange.place.rank}"}, refusal if exchange.place.rank == 1 else None)

    found = together(4, introduce)
    assert found[1] is refusal
    assert [error.code for error in found] == [75, 78, 75, 75]
    assert "worker 1 on h1 refuses: run r is already there" in str(found[0])


def test_a_worker_of_another_image_is_named():
    kinds = [{"torch": "2.14.1", "source": "a"}, {"torch": "2.14.0", "source": "a"}]
    found = together(2, lambda exchange: crew_of(exchange).demand_alike(kinds))
    assert [error.code for error in found] == [75, 78]
    assert "worker 1 is of another kind than worker 0" in str(found[0])
    assert "torch: 2.14.0, there 2.14.1" in str(found[1])


def compared(digests):
    hosts = [f"h{rank}" for rank in range(len(digests))]
    return together(len(digests), lambda exchange: crew_of(exchange).compare(digests[exchange.place.rank] * 32, hosts, 7))


def test_equal_weights_pass():
    assert compared([b"a"] * 4) == [None] * 4


@pytest.mark.parametrize("wrong", range(4))
def test_wrong_weights_are_blamed_on_the_worker_that_has_them(wrong):
    found = compared([b"b" if rank == wrong else b"a" for rank in range(4)])
    assert [error.code for error in found] == [71 if rank == wrong else 75 for rank in range(4)]
    assert all(f"after step 7 worker {wrong} (h{wrong}) has other weights" in str(error) for error in found)


def test_of_two_workers_nobody_knows_whose_weights_are_wrong():
    found = compared([b"a", b"b"])
    assert [error.code for error in found] == [71, 71]
    assert "worker 1 (h1) has other weights than the others, or worker 0" in str(found[0])


def test_a_signal_of_any_worker_reaches_the_one_that_leads():
    def agree(exchange):
        crew = crew_of(exchange, number=15 if exchange.place.rank == 2 else 0)
        return crew.agree(Call.STEP, 42), crew._stop.number

    found = together(4, agree)
    assert found[0] == ((Call.STEP, 42), 15)
    assert found[1] == ((Call.STEP, 42), 0)


def test_energy_is_that_of_all_machines():
    def agree(exchange):
        crew = crew_of(exchange)
        if exchange.place.rank == 1:
            crew.measure(lambda: 250.4)
        crew.agree()
        return crew.total_energy(100.0), crew.total_energy(None)

    assert together(2, agree)[0] == (350.0, None)


def test_a_leader_that_is_busy_is_heard_and_says_how_it_ended():
    def work(exchange):
        crew = crew_of(exchange)
        if exchange.place.leads:
            with Leader(crew) as leader:
                time.sleep(2.5)
                leader.exit_code = Exit.TERMINATED
            return None
        heard = []
        while not heard or heard[-1][0] is not Call.END:
            heard.append(crew.agree())
        return heard

    heard = together(2, work)[1]
    assert heard[-1] == (Call.END, 143)
    assert [call for call, _ in heard[:-1]] == [Call.NOTHING] * len(heard[:-1])
    assert len(heard) in (2, 3, 4)


def test_whoever_misses_a_worker_hears_why_it_left():
    def work(exchange):
        if exchange.place.rank == 1:
            exchange.leave_word("worker 1 on h1 ended with 71: its GPU has no memory left.")
            raise RuntimeError
        return crew_of(exchange).agree()

    found = together(2, work)[0]
    assert found.code == 75
    assert str(found) == "worker 1 on h1 ended with 71: its GPU has no memory left. So this worker, 0, ends."


def test_whoever_misses_a_silent_worker_names_it():
    def work(exchange):
        if exchange.place.rank == 2:
            raise RuntimeError
        return crew_of(exchange).agree()

    found = together(4, work)
    assert [error.code for rank, error in enumerate(found) if rank != 2] == [75] * 3
    assert all("worker 2 of 4 does not answer" in str(error) for rank, error in enumerate(found) if rank != 2)
