"""What the workers of a run agree on: who they are, what comes next, and how it ended."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from job.core.exits import Exit, JobError
from job.core.identity_records import Claim
from job.engines.exchange import Exchange

TICK = 1.0
"""seconds between two words of worker 0 while it is busy with something else, such as a store that is away"""
SHARED = (Exit.DONE, Exit.TERMINATED, Exit.INTERRUPTED)
"""codes of worker 0 with which all others end, too"""


class Call(IntEnum):
    """What worker 0 announces."""

    NOTHING = 0
    """it is busy, and lives"""
    ATTEMPT = 1
    """its name follows"""
    LOAD = 2
    """weights and slots follow"""
    STEP = 3
    """argument: its number, from 1"""
    READ = 4
    """losses and hits"""
    LOGITS = 5
    """argument: 0 for training images, 1 for test images; their indices follow"""
    DIGESTS = 6
    """of weights and slots, to be compared"""
    END = 7
    """argument: the exit code of worker 0"""


class Stop(Protocol):
    """As `job.training.stopping.StopSignal`."""

    number: int

    def note(self, number: int) -> None: ...


class Crew:
    """One worker among the others.  Every method is a collective: all workers call the same ones in the same order."""

    def __init__(self, exchange: Exchange, stop: Stop) -> None:
        self.exchange, self.place, self._stop = exchange, exchange.place, stop
        self._joules: Callable[[], float | None] = lambda: 0.0
        self.energy: list[float | None] = [0.0] * self.place.workers
        """in J, what was measured on each worker, as of the last call"""

    def introduce(self, facts: Claim, refusal: JobError | None) -> list[Claim]:
        """The claim of every worker, by rank.  Raises JobError where one refuses: its own for that one, 75 for the others."""
        own = {"facts": facts, "refusal": None if refusal is None else str(refusal)}
        said = [json.loads(text) for text in self.gather_texts(json.dumps(own))]
        if refusal is not None:
            raise refusal
        for rank, other in enumerate(said):
            if other["refusal"] is not None:
                raise gone(f"worker {rank} on {other['facts']['host']} refuses: {other['refusal']}", self.place.rank)
        return [other["facts"] for other in said]

    def demand_alike(self, kinds: Sequence[Mapping[str, Any]]) -> None:
        """`kinds`: by rank.  Raises JobError where one is not that of worker 0: 78 for the one that differs, 75 for the others."""
        for rank, kind in enumerate(kinds):
            different = "; ".join(f"{name}: {kind[name]}, there {kinds[0][name]}" for name in kinds[0] if kind[name] != kinds[0][name])
            if different:
                text = f"worker {rank} is of another kind than worker 0, and would compute other numbers ({different})."
                if rank != self.place.rank:
                    raise gone(text, self.place.rank)
                raise JobError(Exit.CONFIGURATION, f"{text} Start all workers with one image and on one kind of device.")

    def measure(self, joules: Callable[[], float | None]) -> None:
        """`joules`: used so far by the GPUs that this worker measures; None where one has no counter."""
        self._joules = joules

    def total_energy(self, own: float | None) -> float | None:
        """In J, of all GPUs, those of worker 0 being `own`; None where one has no counter."""
        joules = [own, *self.energy[1:]]
        return None if None in joules else sum(j for j in joules if j is not None)

    def gather_texts(self, text: str) -> list[str]:
        data = text.encode()
        sizes = self.gather(np.array([len(data)], np.int32)).reshape(-1)
        padded = np.zeros(-(-sizes.max() // 4) * 4, np.uint8)
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        rows = self.gather(padded.view(np.int32))
        return [row.tobytes()[:size].decode() for row, size in zip(rows, sizes, strict=True)]

    def gather(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """(workers, len(values)): those of each worker, by rank."""
        table = np.zeros((self.place.workers, len(values)), np.int32)
        table[self.place.rank] = values
        return self.exchange.total(table)

    def spread(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array of worker 0, bit by bit; those of the others only say its shape and type."""
        words = np.ascontiguousarray(array).reshape(-1).view(np.int32)
        found = self.exchange.total(words if self.place.leads else np.zeros_like(words))
        return found.view(array.dtype).reshape(array.shape)

    def agree(self, call: Call = Call.NOTHING, argument: int = 0) -> tuple[Call, int]:
        """Worker 0 announces, all learn it; worker 0 learns of signals that reached others."""
        joules = self._joules()
        table = self.gather(np.array([call, argument, self._stop.number, -1 if joules is None else round(joules)], np.int32))
        if self.place.leads and (signals := [number for number in table[:, 2].tolist() if number]):
            self._stop.note(signals[0])
        self.energy = [None if value < 0 else float(value) for value in table[:, 3].tolist()]
        return Call(int(table[0, 0])), int(table[0, 1])

    def compare(self, digest: bytes, hosts: list[str], step: int) -> None:
        """Raises JobError where the workers' digests (32 bytes) differ: 71 for those that stand against most others, 75 for the others."""
        digests = [row.tobytes() for row in self.gather(np.frombuffer(digest, np.int32))]
        if len(set(digests)) == 1:
            return
        (most, count), *_ = Counter(digests).most_common()
        divided = 2 * count == len(digests) or count == 1
        wrong = [rank for rank, own in enumerate(digests) if own != (digests[0] if divided else most)]
        names = " and ".join(f"worker {rank} ({hosts[rank]})" for rank in wrong)
        blame = "or worker 0, as nobody can say which is right, " if divided else ""
        text = (
            f"after step {step} {names} has other weights than the others, {blame}though all computed the same: a GPU, memory or a library "
            "that computes wrongly. No checkpoint was made of them; another node may do. Look at `nvidia-smi -q -d ECC` there."
        )
        if divided or self.place.rank in wrong:
            raise JobError(Exit.DEVICE, text)
        raise gone(text, self.place.rank)


class Leader:
    """`with Leader(crew) as leader:` on worker 0: announces what it does, one thing at a time, and says how it ended."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.exit_code = Exit.DONE
        """to end with where no error says another one"""
        self._turn = threading.RLock()
        self._said = time.monotonic()
        self._closing = threading.Event()
        self._broken = False
        """a turn was not taken to its end: the others wait for something else than what comes next"""

    def __enter__(self) -> Self:
        if not self.crew.place.alone:
            threading.Thread(target=self._tick, name="crew", daemon=True).start()
        return self

    @contextmanager
    def turn(self, call: Call, argument: int = 0) -> Iterator[None]:
        """All workers do this now."""
        with self._turn:
            try:
                self.crew.agree(call, argument)
                yield
            except BaseException:
                self._broken = True
                raise
            self._said = time.monotonic()

    def name_attempt(self, name: str) -> None:
        """All workers learn the name of the attempt."""
        if not self.crew.place.alone:
            with self.turn(Call.ATTEMPT):
                self.crew.gather_texts(name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        if self.crew.place.alone:
            return
        code = self.exit_code if error is None else error.code if isinstance(error, JobError) else Exit.INTERNAL
        if code not in (*SHARED, Exit.WORKER_GONE):
            self.crew.exchange.leave_word(f"worker 0 ended with {code:d}: {error}")
        if not self._broken:
            with suppress(JobError), self.turn(Call.END, code):
                self.crew.exchange.close()

    def _tick(self) -> None:
        """Between two turns: the others must not take silence for death, and their signals must be heard."""
        while not self._closing.wait(TICK / 4):
            with self._turn:
                if self._closing.is_set() or self._broken:
                    return
                if time.monotonic() - self._said > TICK:
                    with suppress(JobError), self.turn(Call.NOTHING):  # the next turn of the loop meets the same
                        pass


def gone(text: str, rank: int) -> JobError:
    return JobError(Exit.WORKER_GONE, f"{text} So worker {rank} ends.")
