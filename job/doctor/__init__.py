"""Can this node and this store run the job?  A page of checks, each pass, warn or fail, in under a minute.

Each check uses what training uses: the engine's kernels, the store's operations, the dataset's reader.  Whatever it stores, it deletes.
"""

import queue
import threading
import time
from collections.abc import Iterator

from job.doctor.page import Line, Setup

PAGE_SECONDS = 50.0
"""seconds for the whole page"""
MIN_SECONDS = 20.0
"""seconds that the store and the dataset have at least, however long the kernels took"""
CLEANUP_SECONDS = 5.0
"""seconds for deleting what was stored, if the page ends early"""
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


def examine(setup: Setup) -> Iterator[Line]:
    """The lines of the page, each as soon as its check is done."""
    from job.doctor import kernel, node, storage

    begun = time.monotonic()
    yield node.packages()
    reports = kernel.measure_all(setup.engines, setup.device)
    found, absent = node.visible_gpus()
    yield node.gpu(setup.device, found, absent)
    yield from kernel.lines(reports, gpu_expected=bool(found) and setup.device != "cpu")
    yield node.memory(node.memory_needs(setup.recipe, setup.networks, reports), node.limits(), node.used_bytes())
    yield node.cpus(node.limits())
    yield node.shared_memory()
    yield from node.disks(setup)
    if setup.output is not None:
        seconds = max(MIN_SECONDS, PAGE_SECONDS - (time.monotonic() - begun))
        yield from within(seconds, LATE_STORE, storage.check_store(setup))
    if setup.data is not None:
        seconds = max(MIN_SECONDS, PAGE_SECONDS - (time.monotonic() - begun))
        yield from within(seconds, LATE_DATASET, storage.check_dataset(setup))


def within(seconds: float, late: Line, lines: Iterator[Line]) -> Iterator[Line]:
    """`lines`, drawn on a thread of their own; after `seconds` without an end, `late`."""
    found: queue.SimpleQueue[Line | Exception | None] = queue.SimpleQueue()
    closing = threading.Event()

    def run() -> None:
        try:
            for line in lines:
                found.put(line)
                if closing.is_set():
                    break
            found.put(None)
        except Exception as error:
            found.put(error)
        finally:
            getattr(lines, "close", lambda: None)()  # deletes what was stored

    thread = threading.Thread(target=run, daemon=True)
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
        thread.join(CLEANUP_SECONDS)
