"""The resource samples of a run, as readers get them: from thousands of small objects, in memory that does not grow with these."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from job.core.exits import Exit, JobError
from job.core.resource_records import AttemptRow, ResourceRow
from job.core.thinning import ThinnedRows
from job.core.validation import LARGEST
from job.runs.reading import sound_lines
from job.runs.run import ATTEMPT, Run
from job.storage.errors import NotFound

SEGMENT = re.compile(rf"(?P<attempt>{ATTEMPT.pattern})/resources-(?P<number>[0-9]{{4,9}})\.jsonl")
SEGMENT_BYTES = 1 << 20
"""of one object; 30 rows of a node with 16 GPUs have a quarter of that"""
ROW_BYTES = 1 << 16
"""of one line"""
THREADS = 16
BATCH = 64
"""objects that are in memory at a time"""


def resources_of(run: Run, *, but_for: str = "") -> ThinnedRows[AttemptRow]:
    """Rows of all attempts `but_for` one, in the order in which they were written, without damaged ones."""
    rows = ThinnedRows[AttemptRow]()
    segments = [segment for segment in _segments(run) if segment[0] != but_for]
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(segments), BATCH):
            some = segments[start : start + BATCH]
            for (attempt, *_), data in zip(some, pool.map(lambda segment: _bytes(run, segment[-1]), some), strict=True):
                for row in _rows(data):
                    rows.add({**row, "attempt": attempt})
    return rows


def last_row(run: Run, attempt: str) -> ResourceRow | None:
    """The last sample that an attempt stored; None if there is none."""
    keys = [key for name, _, key in _segments(run, attempt) if name == attempt]
    rows = _rows(_bytes(run, keys[-1])) if keys else []
    return rows[-1] if rows else None


def _segments(run: Run, attempt: str = "") -> list[tuple[str, int, str]]:
    """(attempt, number, key) in the order in which they were written."""
    root = run.key("attempts", "")
    keys = [entry.key for entry in run.store.list(f"{root}{attempt}")]
    found = [(match, key) for key in keys if (match := SEGMENT.fullmatch(key.removeprefix(root)))]
    return sorted((match["attempt"], int(match["number"]), key) for match, key in found)


def _bytes(run: Run, key: str) -> bytes:
    """None of one that is gone, or too long to be ours."""
    try:
        return run.store.get(key, SEGMENT_BYTES)
    except NotFound:
        return b""
    except JobError as error:
        if error.code is not Exit.DATA:
            raise
        return b""


def _rows(data: bytes) -> list[ResourceRow]:
    found: list[ResourceRow] = sound_lines(ResourceRow, b"\n".join(line for line in data.splitlines() if len(line) <= ROW_BYTES))
    return [row for row in found if all(map(_is_plausible, (row, *row.get("gpus", ()))))]


def _is_plausible(figures: Mapping[str, object]) -> bool:
    """Can sums over a run's rows be trusted to stay finite?"""
    return all(-LARGEST < value < LARGEST for value in figures.values() if isinstance(value, int | float))
