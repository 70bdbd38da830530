"""A resource log of any length in bounded memory: neighbouring rows are merged into one that speaks for the time of both.

What is lost is the moment of a peak, never its height; averages over the time stay what they are.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Generic, TypeVar, cast

from job.core.resource_records import GpuRow, ResourceRow

Row = TypeVar("Row", bound=ResourceRow)

ROWS = 4096
"""that are held: an hour second by second, a day in rows of 32 seconds"""
GPUS = 64
"""of one row that are held; no node has more"""


class ThinnedRows(Generic[Row]):
    """Takes rows in their order.  Where there would be ROWS, all that are neighbours and of one attempt are merged two by two."""

    def __init__(self) -> None:
        self._width = 1
        """samples that make a row"""
        self._rows: list[Row] = []
        self._in_last = 0
        """samples in the newest row"""

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def add(self, row: Row) -> None:
        if self._in_last < self._width and self._rows and _of_one_attempt(self._rows[-1], row):
            self._rows[-1] = merged(self._rows[-1], row)
            self._in_last += 1
            return
        self._rows.append(row)
        self._in_last = 1
        if len(self._rows) >= ROWS:
            self._halve()

    def _halve(self) -> None:
        halved, alone = list[Row](), False
        for row in self._rows:
            if alone and _of_one_attempt(halved[-1], row):
                halved[-1], alone = merged(halved[-1], row), False
            else:
                halved.append(row)
                alone = True
        self._rows, self._in_last = halved, self._in_last if alone else self._in_last + self._width
        self._width *= 2


def merged(before: Row, after: Row) -> Row:
    """One row for two: rates, shares and clocks are averages weighted by the time, memory and temperatures the greater ones; all else
    (time, step, limits, counters) is as in the later one."""
    weights = before["interval_seconds"], after["interval_seconds"]
    earlier, later = cast(list[GpuRow], before.get("gpus", [])), cast(list[GpuRow], after.get("gpus", []))
    gpus = {gpu["index"]: gpu for gpu in earlier}
    for gpu in later:
        known = gpus.get(gpu["index"])
        gpus[gpu["index"]] = gpu if known is None else cast(GpuRow, _merged_figures(known, gpu, *weights))
    row: dict[str, Any] = {**_merged_figures(before, after, *weights), "interval_seconds": sum(weights)}
    if gpus:
        row["gpus"] = [*gpus.values()][:GPUS]
    return cast(Row, row)


def _merged_figures(before: Mapping[str, Any], after: Mapping[str, Any], first: float, second: float) -> dict[str, Any]:
    found = {**before, **after}
    lasted = first + second
    share = second / lasted if lasted > 0 else 0.5
    for name in before.keys() & after.keys():
        if _is_rate(name):
            found[name] = before[name] + share * (after[name] - before[name])
        elif _is_level(name):
            found[name] = max(before[name], after[name])
    return found


@cache
def _is_rate(name: str) -> bool:
    return name.endswith(("_per_second", "_cores", "_percent", "_watts", "_mhz")) and "_limit_" not in name


@cache
def _is_level(name: str) -> bool:
    return name.endswith(("_bytes", "_celsius")) and "_limit_" not in name and "_total_" not in name


def _of_one_attempt(before: ResourceRow, after: ResourceRow) -> bool:
    return before.get("attempt") == after.get("attempt")
