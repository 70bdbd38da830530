"""How the objects of a run are read: none larger than its kind can be, each checked against its type, none of a newer version.

A bucket is shared.  What lies there may be damaged, of another version, or somebody's attempt on whoever reads it.
"""

from typing import Any, TypeVar

from job.core import validation
from job.core.exits import Exit, JobError
from job.core.records import FORMAT, CheckpointState
from job.storage.store import Store

Record = TypeVar("Record")

RECORD_BYTES = 1 << 20
"""of a JSON object; the largest of ours, a summary, has about 10,000"""
STATE_BYTES = 1 << 24
"""of a state.json, which has the losses of a logging interval"""
LINES_BYTES = 1 << 26
"""of a .jsonl file; a line has about 300"""


class NewerFormatError(JobError):
    """78: of a version that this one does not know."""


def read_record(store: Store, key: str, kind: type[Record]) -> Record:
    """The JSON object under this key.  Raises NotFound, and as `record`."""
    return record(kind, store.get(key, STATE_BYTES if kind is CheckpointState else RECORD_BYTES), f"{store.url}/{key}")


def record(kind: type[Record], data: bytes, where: str) -> Record:
    """The record in a JSON text.  Raises JobError naming `where`: 65 where it is damaged, 78 where it is of a newer format."""
    try:
        value = validation.decoded(data)
        _refuse_newer(value, where)
        found: Record = validation.checked(kind, value)
        return found
    except ValueError as error:
        raise JobError(Exit.DATA, f"{where} is damaged: {error}. Expected what a run leaves.") from None


def lines(kind: Any, data: bytes, where: str) -> list[Any]:
    """The records in the lines of a .jsonl file.  Raises JobError, as `record`, naming the line."""
    return [record(kind, line, f"{where}, line {number},") for number, line in enumerate(data.splitlines(), 1)]


def sound_lines(kind: Any, data: bytes) -> list[Any]:
    """The same without those that are damaged, for what no result rests on."""
    found = []
    for line in data.splitlines():
        try:
            found.append(validation.parse(kind, line))
        except ValueError:
            continue
    return found


def _refuse_newer(value: Any, where: str) -> None:
    number = value.get("format") if isinstance(value, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise NewerFormatError(
            Exit.CONFIGURATION,
            f"{where} was written by a newer version of alexnet-job: its format is {number}, this one reads {FORMAT}. "
            "Use the image that wrote it, or a newer one.",
        )
