"""Folders laid out as kernels do: version 1, version 2, both, nested, and none."""

import os
from pathlib import Path

import pytest

from job.telemetry.cgroup import Cgroup, usable_cpus

GIB = 1 << 30


def lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        (path.parent / "cgroup.procs").touch()


def proc(root: Path, cgroup: str, mounts: str) -> Cgroup:
    (root / "proc").mkdir()
    (root / "proc" / "cgroup").write_text(cgroup)
    (root / "proc" / "mountinfo").write_text(mounts)
    return Cgroup(root, root / "proc")


V2 = "30 23 0:26 {base} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"


def test_version_2_in_a_container(tmp_path):
    files = {
        "memory.max": str(3 * GIB),
        "memory.current": str(2 * GIB),
        "memory.stat": f"anon 5\ninactive_file {GIB}",
        "memory.events": "low 0\noom 2\noom_kill 1",
        "cpu.max": "150000 100000",
        "cpu.stat": "usage_usec 2500000\nthrottled_usec 300000",
    }
    lay(tmp_path / "sys/fs/cgroup", files)
    group = proc(tmp_path, "0::/\n", V2.format(base="/"))
    assert vars(group.limits()) == {"cpus": 1.5, "memory_bytes": 3 * GIB, "version": "v2"}
    usage = group.usage()
    assert (usage.memory_bytes, usage.cpu_seconds, usage.throttled_seconds, usage.out_of_memory_kills) == (GIB, 2.5, 0.3, 1)


def test_the_smallest_limit_of_the_ancestors_counts(tmp_path):
    root = tmp_path / "sys/fs/cgroup"
    lay(root, {"memory.current": "9"})
    lay(root / "kubepods", {"memory.max": str(8 * GIB), "cpu.max": "max 100000"})
    lay(root / "kubepods/pod", {"memory.max": str(2 * GIB), "cpu.max": "50000 100000"})
    lay(root / "kubepods/pod/container", {"memory.max": "max", "cpu.max": "400000 100000", "memory.current": "1"})
    group = proc(tmp_path, "0::/kubepods/pod/container\n", V2.format(base="/"))
    assert vars(group.limits()) == {"cpus": 0.5, "memory_bytes": 2 * GIB, "version": "v2"}


V1 = (
    "31 23 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 23 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


def version_1(root: Path) -> None:
    memory = {
        "memory.limit_in_bytes": str(3 * GIB),
        "memory.usage_in_bytes": str(GIB),
        "memory.stat": "inactive_file 1\ntotal_inactive_file 1000",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4",
    }
    lay(root / "memory", memory)
    cpu = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000", "cpu.stat": "nr_periods 5\nthrottled_time 2000000000"}
    lay(root / "cpu,cpuacct", {**cpu, "cpuacct.usage": "7000000000"})


def test_version_1_in_a_container(tmp_path):
    version_1(tmp_path / "sys/fs/cgroup")
    group = proc(tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n", V1)
    assert vars(group.limits()) == {"cpus": 2.0, "memory_bytes": 3 * GIB, "version": "v1"}
    usage = group.usage()
    assert (usage.memory_bytes, usage.cpu_seconds, usage.throttled_seconds, usage.out_of_memory_kills) == (GIB - 1000, 7.0, 2.0, 4)


def test_hybrid(tmp_path):
    version_1(tmp_path / "sys/fs/cgroup")
    mounts = V1 + "33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    group = proc(tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n", mounts)
    assert vars(group.limits()) == {"cpus": 2.0, "memory_bytes": 3 * GIB, "version": "hybrid"}


def test_version_1_without_limits(tmp_path):
    lay(tmp_path / "sys/fs/cgroup/memory", {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "5"})
    lay(tmp_path / "sys/fs/cgroup/cpu,cpuacct", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"})
    group = proc(tmp_path, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n", V1)
    assert vars(group.limits()) == {"cpus": None, "memory_bytes": None, "version": "v1"}


def test_a_path_outside_of_what_is_mounted(tmp_path):
    """As a process sees it that joined the container from outside."""
    lay(tmp_path / "sys/fs/cgroup", {"memory.max": str(GIB), "cpu.max": "max 100000"})
    group = proc(tmp_path, "0::/../../other\n", V2.format(base="/"))
    assert group.limits().memory_bytes == GIB


def test_nothing_at_all(tmp_path):
    group = proc(tmp_path, "", "")
    assert vars(group.limits()) == {"cpus": None, "memory_bytes": None, "version": "none"}
    assert set(vars(group.usage()).values()) == {None}


def test_one_controller_in_each_version(tmp_path):
    """What is mounted decides: here memory is with version 2, and the CPU with version 1."""
    version_1(tmp_path / "sys/fs/cgroup")
    lay(tmp_path / "sys/fs/cgroup/unified/job", {"memory.max": str(2 * GIB), "memory.current": "100", "memory.stat": "inactive_file 40"})
    mounts = V1.splitlines()[1] + "\n33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    group = proc(tmp_path, "4:cpu,cpuacct:/docker/abc\n0::/job\n", mounts)
    assert vars(group.limits()) == {"cpus": 2.0, "memory_bytes": 2 * GIB, "version": "hybrid"}
    assert (group.usage().memory_bytes, group.usage().cpu_seconds) == (60, 7.0)


def test_controllers_mounted_apart_and_groups_of_different_depth(tmp_path):
    """As in a virtual machine whose agent has groups for memory only."""
    root = tmp_path / "sys/fs/cgroup"
    lay(root / "memory", {"memory.limit_in_bytes": str(1 << 62)})
    lay(root / "memory/agent", {"memory.limit_in_bytes": str(5 * GIB)})
    lay(root / "memory/agent/job", {"memory.limit_in_bytes": str(1 << 62), "memory.usage_in_bytes": "7"})
    lay(root / "cpu", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000", "cpu.stat": "throttled_time 5000000"})
    lay(root / "cpuacct", {"cpuacct.usage": "3000000000"})
    lay(root / "unified", {"cgroup.controllers": ""})
    names = ("memory", "cpu", "cpuacct")
    mounts = "".join(f"{n} 23 0:{n} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n" for n, name in enumerate(names))
    mounts += "9 23 0:9 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    group = proc(tmp_path, "3:memory:/agent/job\n2:cpuacct:/\n1:cpu:/\n0::/\n", mounts)
    assert vars(group.limits()) == {"cpus": None, "memory_bytes": 5 * GIB, "version": "hybrid"}
    assert vars(group.usage()) == {"memory_bytes": 7, "cpu_seconds": 3.0, "throttled_seconds": 0.005, "out_of_memory_kills": None}


def test_a_mount_with_a_blank_in_its_path(tmp_path):
    lay(tmp_path / "my groups", {"memory.max": str(GIB)})
    group = proc(tmp_path, "0::/\n", "30 23 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n")
    assert group.limits().memory_bytes == GIB


def test_nothing_above_the_mount_is_looked_at(tmp_path):
    """The folder that holds a container's mount may belong to another hierarchy."""
    lay(tmp_path / "sys/fs", {"memory.max": "1000"})
    lay(tmp_path / "sys/fs/cgroup", {"memory.max": str(GIB)})
    assert proc(tmp_path, "0::/\n", V2.format(base="/")).limits().memory_bytes == GIB


@pytest.mark.parametrize(("quota", "threads"), [("max", 4), ("50000", 1), ("150000", 1), ("350000", 3), ("9900000", 4)])
def test_threads_for_the_quota(tmp_path, monkeypatch, quota, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    lay(tmp_path / "sys/fs/cgroup", {"cpu.max": f"{quota} 100000"})
    assert usable_cpus(proc(tmp_path, "0::/\n", V2.format(base="/"))) == threads


def test_this_machine():
    """Whatever it has is told without an error, and its figures are those of a process at work."""
    limits, usage = Cgroup().limits(), Cgroup().usage()
    assert limits.version in ("v1", "v2", "hybrid", "none")
    assert limits.cpus is None or limits.cpus > 0
    assert limits.memory_bytes is None or limits.memory_bytes > 1_000_000
    assert usage.memory_bytes is None or usage.memory_bytes > 1_000_000
