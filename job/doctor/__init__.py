"""Will this node and this store do for the run?  A page of lines, each pass, warn or fail, in under a minute.

Every check tries the real thing with the parts that training uses: the engine's kernels, the store's verbs, the dataset's reader.
Nothing that it puts stays.
"""

import queue
import threading
import time
from collections.abc import Iterator

from job.doctor.page import Line, Question

BUDGET = 50.0
"""seconds for the whole page"""
LEAST = 20.0
"""seconds that the store gets, however long the kernels took"""
CLEARING = 5.0
"""seconds in which what was put is deleted, when the page ends early"""
LATE_STORE = Line(
    check="store",
    level="fail",
    reason="not all answers came in the time that a page has",
    remedy="Look at the network and at the load of the server. Objects under .doctor-* may be left behind; delete them.",
)
LATE_DATASET = Line(
    check="dataset",
    level="warn",
    reason="not read to its end in the time that a page has",
    remedy="A first download may take longer: run `alexnet data`, or give a --cache that stays.",
)


def examine(question: Question) -> Iterator[Line]:
    """The page, line by line."""
    from job.doctor import kernel, node, storage

    begun = time.monotonic()
    yield node.packages()
    reports = kernel.run(question.engines, question.device)
    found, absent = node.gpus()
    yield node.gpu(question.device, found, absent)
    yield from kernel.lines(reports, gpu_expected=bool(found) and question.device != "cpu")
    yield node.memory(node.needs(question.recipe, reports), node.limits(), node.used_bytes())
    yield node.cpus(node.limits())
    yield node.shared_memory()
    yield from node.disks(question)
    if question.output is not None:
        seconds = max(LEAST, BUDGET - (time.monotonic() - begun))
        yield from within(seconds, LATE_STORE, storage.examine(question))
    if question.data is not None:
        seconds = max(LEAST, BUDGET - (time.monotonic() - begun))
        yield from within(seconds, LATE_DATASET, storage.dataset(question))


def within(seconds: float, late: Line, lines: Iterator[Line]) -> Iterator[Line]:
    """`lines` as they come from a thread of their own; when the time is over, `late`."""
    found: queue.SimpleQueue[Line | Exception | None] = queue.SimpleQueue()
    closing = threading.Event()

    def work() -> None:
        try:
            for line in lines:
                found.put(line)
                if closing.is_set():
                    break
            found.put(None)
        except Exception as error:
            found.put(error)
        finally:
            getattr(lines, "close", lambda: None)()  # clears away what was put

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    end = time.monotonic() + seconds
    try:
        while (line := found.get(timeout=max(0.0, end - time.monotonic()))) is not None:
            if isinstance(line, Exception):
                raise line
            yield line
    except queue.Empty:
        yield late
    finally:
        closing.set()
        thread.join(CLEARING)
