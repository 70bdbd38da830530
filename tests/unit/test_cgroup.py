"""Folders laid out as kernels do: version 1, version 2, both, nested, and none."""

from pathlib import Path

from job.io.cgroup import Cgroup

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
