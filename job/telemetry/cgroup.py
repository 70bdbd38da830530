"""Limits and usage of the container: its control groups, of version 1, version 2 or both.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{cgroups,memory,cpuacct}.rst; man 7 cgroups for the two files
in /proc.  Which controllers are mounted decides, not which version the host is said to have.  In a container the process's path may
lie outside what is mounted; then the mount itself is its group.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NO_LIMIT = 1 << 60
"""version 1 writes a number as great as this where there is no limit"""
VERSION_2 = ""
"""the name under which both files in /proc list the one hierarchy of version 2"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None: unlimited, as far as the process can see."""

    cpus: float | None
    """quota of CPU time, in cores"""
    memory_bytes: int | None
    version: str
    """ "v1", "v2", "hybrid" or "none" """


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counters since the group was created; None where the kernel does not report one."""

    memory_bytes: int | None
    """working set: usage without inactive file pages, which the kernel drops when memory is short"""
    cpu_seconds: float | None
    throttled_seconds: float | None
    """time in which threads were ready to run but the quota was used up"""
    out_of_memory_kills: int | None


@dataclass(frozen=True)
class _Group:
    """Folder of the process's group for one controller, and the mount above which nothing can be seen."""

    folder: Path
    mount: Path
    version: int

    def read(self, name: str) -> str:
        return _text(self.folder / name)

    def number(self, name: str) -> int | None:
        return _number(self.read(name))

    def table(self, name: str) -> dict[str, int]:
        rows = (line.split() for line in self.read(name).splitlines())
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}

    def upwards(self) -> Iterator[Path]:
        """The group and its ancestors, up to the mount."""
        yield self.folder
        for folder in self.folder.parents if self.folder != self.mount else ():
            yield folder
            if folder == self.mount:
                return

    def smallest(self, limit: Callable[[Path], float | None]) -> float | None:
        return min((found for folder in self.upwards() if (found := limit(folder)) is not None), default=None)


class Cgroup:
    """The groups of this process.  `root` and `proc` take the places of / and /proc/self."""

    def __init__(self, root: Path = Path("/"), proc: Path = Path("/proc/self")) -> None:
        mounts, paths = _mounts(proc, root), _paths(proc)
        self._memory, self._cpu, self._account = (_group(name, mounts, paths) for name in ("memory", "cpu", "cpuacct"))
        versions = {group.version for group in (self._memory, self._cpu) if group}
        mixed = len(versions) == 2 or (versions == {1} and VERSION_2 in mounts)
        self.version = "none" if not versions else "hybrid" if mixed else f"v{versions.pop()}"

    def limits(self) -> Limits:
        """The smallest among the limits of the group and of its visible ancestors."""
        memory = self._memory.smallest(_memory_limit) if self._memory else None
        return Limits(
            cpus=self._cpu.smallest(_quota) if self._cpu else None,
            memory_bytes=int(memory) if memory is not None else None,
            version=self.version,
        )

    def usage(self) -> Usage:
        throttled, cpu = self._cpu_times()
        kills = (
            _first(self._memory.table(name).get("oom_kill") for name in ("memory.events", "memory.oom_control")) if self._memory else None
        )
        return Usage(memory_bytes=self._working_set(), cpu_seconds=cpu, throttled_seconds=throttled, out_of_memory_kills=kills)

    def _working_set(self) -> int | None:
        group = self._memory
        if group is None:
            return None
        used = group.number("memory.current" if group.version == 2 else "memory.usage_in_bytes")
        inactive = group.table("memory.stat").get("inactive_file" if group.version == 2 else "total_inactive_file", 0)
        return max(used - inactive, 0) if used is not None else None

    def _cpu_times(self) -> tuple[float | None, float | None]:
        """(seconds throttled, seconds used)."""
        statistics = self._cpu.table("cpu.stat") if self._cpu else {}
        used = self._account.number("cpuacct.usage") if self._account and self._account.version == 1 else None
        return (
            _first((_seconds(statistics.get("throttled_usec"), 1e6), _seconds(statistics.get("throttled_time"), 1e9))),
            _first((_seconds(statistics.get("usage_usec"), 1e6), _seconds(used, 1e9))),
        )


def _mounts(proc: Path, root: Path) -> dict[str, tuple[Path, str]]:
    """Controller → (mount point, the group that is mounted there)."""
    found: dict[str, tuple[Path, str]] = {}
    for line in _text(proc / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 3 or rest[0] not in ("cgroup", "cgroup2"):
            continue
        place = (root / _unescaped(fields[4]).lstrip("/"), _unescaped(fields[3]))
        for name in [VERSION_2] if rest[0] == "cgroup2" else rest[2].split(","):
            found.setdefault(name, place)
    return found


def _paths(proc: Path) -> dict[str, str]:
    """Controller → path of the process's group in its hierarchy."""
    found: dict[str, str] = {}
    for line in _text(proc / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        found |= dict.fromkeys(names.split(","), path)
    return found


def _group(controller: str, mounts: dict[str, tuple[Path, str]], paths: dict[str, str]) -> _Group | None:
    """None where the controller is in neither hierarchy."""
    for name, version in ((controller, 1), (VERSION_2, 2)):
        if name in mounts and name in paths:
            mount, base = mounts[name]
            base = base.rstrip("/")
            inside = paths[name].removeprefix(base).strip("/") if f"{paths[name]}/".startswith(f"{base}/") else ""
            folder = mount / inside if ".." not in inside.split("/") else mount
            return _Group(folder if folder.is_dir() else mount, mount, version)
    return None


def _memory_limit(folder: Path) -> float | None:
    number = _first(_number(_text(folder / name)) for name in ("memory.max", "memory.limit_in_bytes"))
    return number if number is not None and number < NO_LIMIT else None


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split() or [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = map(_number, words) if len(words) == 2 else (None, None)
    return quota / period if quota is not None and quota > 0 and period else None


def _seconds(count: int | None, per_second: float) -> float | None:
    return count / per_second if count is not None else None


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def _unescaped(field: str) -> str:
    """mountinfo writes blanks and the like in octal."""
    return field.encode().decode("unicode_escape") if "\\" in field else field


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def usable_cpus(group: Cgroup | None = None) -> int:
    """Threads that each have a CPU: the whole CPUs of the quota, at most those that the process may run on, at least 1."""
    quota, visible = (group or Cgroup()).limits().cpus, len(os.sched_getaffinity(0))
    return visible if quota is None else max(1, min(visible, int(quota)))
