"""What the container may use and uses: its control groups, of version 1, 2 or a mixture.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.  A controller's folder is where its hierarchy is mounted,
joined with the process's path in it; in a container that path may lie outside what is mounted, and then the mount itself is the group.
"""

from dataclasses import dataclass
from pathlib import Path

NO_LIMIT = 1 << 60
"""version 1 writes a number as great as this where there is no limit"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None: unlimited, as far as can be seen from here."""

    cpus: float | None
    memory_bytes: int | None
    version: str
    """ "v1", "v2", "hybrid" or "none" """


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Counters run since the group was made; None where the kernel does not tell."""

    memory_bytes: int | None
    """working set: usage without file pages that were not touched for a while"""
    cpu_seconds: float | None
    throttled_seconds: float | None
    """in which a thread wanted to run and the quota did not let it"""
    out_of_memory_kills: int | None


class Cgroup:
    """The group of this process.  `root` and `proc` replace / and /proc/self in tests."""

    def __init__(self, root: Path = Path("/"), proc: Path = Path("/proc/self")) -> None:
        mounts = _mounts(proc, root)
        paths = _paths(proc)
        self._memory, memory_version = _folder("memory", mounts, paths)
        self._cpu, cpu_version = _folder("cpu", mounts, paths)
        self._account, _ = _folder("cpuacct", mounts, paths)
        versions = {memory_version, cpu_version} - {0}
        self._version = {1: memory_version, 2: cpu_version}
        hybrid = versions == {1, 2} or (versions == {1} and "" in mounts)
        self.version = "none" if not versions else "hybrid" if hybrid else f"v{versions.pop()}"

    def limits(self) -> Limits:
        """The smallest limits among the group and those of its ancestors that can be seen."""
        memory = [_number(folder / name) for folder in _upwards(self._memory) for name in ("memory.max", "memory.limit_in_bytes")]
        quotas = [_quota(folder) for folder in _upwards(self._cpu)]
        return Limits(
            cpus=min((q for q in quotas if q is not None), default=None),
            memory_bytes=min((m for m in memory if m is not None and m < NO_LIMIT), default=None),
            version=self.version,
        )

    def usage(self) -> Usage:
        statistics = _table(self._memory, "memory.stat")
        inactive = statistics.get("inactive_file", 0) if self._version[1] == 2 else statistics.get("total_inactive_file", 0)
        used = _first(_number(self._memory / name) for name in ("memory.current", "memory.usage_in_bytes")) if self._memory else None
        cpu = _table(self._cpu, "cpu.stat")
        nanoseconds = _number(self._account / "cpuacct.usage") if self._account and self._version[2] == 1 else None
        seconds = cpu["usage_usec"] / 1e6 if "usage_usec" in cpu else nanoseconds / 1e9 if nanoseconds is not None else None
        throttled = cpu["throttled_usec"] / 1e6 if "throttled_usec" in cpu else cpu["throttled_time"] / 1e9 if "throttled_time" in cpu else None
        kills = _table(self._memory, "memory.events").get("oom_kill", _table(self._memory, "memory.oom_control").get("oom_kill"))
        return Usage(
            memory_bytes=max(used - inactive, 0) if used is not None else None,
            cpu_seconds=seconds,
            throttled_seconds=throttled,
            out_of_memory_kills=kills,
        )


def _mounts(proc: Path, root: Path) -> dict[str, tuple[Path, str]]:
    """Controller ("" for version 2) → (mount point, the group that is mounted there)."""
    found: dict[str, tuple[Path, str]] = {}
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 3 or rest[0] not in ("cgroup", "cgroup2"):
            continue
        place = (root / fields[4].replace("\\040", " ").lstrip("/"), fields[3])
        if rest[0] == "cgroup2":
            found.setdefault("", place)
        else:
            found |= {name: place for name in rest[2].split(",") if name not in found}
    return found


def _paths(proc: Path) -> dict[str, str]:
    """Controller ("" for version 2) → path of the process's group in its hierarchy."""
    found = {}
    for line in _lines(proc / "cgroup"):
        _, names, path = line.split(":", 2)
        found |= dict.fromkeys(names.split(","), path)
    return found


def _folder(controller: str, mounts: dict[str, tuple[Path, str]], paths: dict[str, str]) -> tuple[Path | None, int]:
    """(folder of the process's group, version of the hierarchy); (None, 0) where the controller is nowhere."""
    for name, version in ((controller, 1), ("", 2)):
        if name in mounts and name in paths:
            mount, base = mounts[name]
            path = paths[name]
            inside = path.removeprefix(base.rstrip("/")) if path.startswith(base.rstrip("/")) else ""
            folder = mount / inside.lstrip("/")
            return (folder if folder.is_dir() else mount), version
    return None, 0


def _upwards(folder: Path | None) -> list[Path]:
    """The group and its ancestors, as far as they are groups."""
    found = []
    while folder is not None and (folder / "cgroup.procs").exists():
        found.append(folder)
        folder = folder.parent
    return found


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota is not None and quota > 0 and period else None


def _table(folder: Path | None, name: str) -> dict[str, int]:
    rows = (line.split() for line in _lines(folder / name)) if folder else ()
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _first(numbers: object) -> int | None:
    return next((n for n in numbers if n is not None), None)  # type: ignore[attr-defined]


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def limits() -> Limits:
    return Cgroup().limits()
