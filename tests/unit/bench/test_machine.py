"""Whose CPU time is whose."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from job.bench import machine

BURN = "import time\nwhile time.process_time() < 0.6: pass"


def test_a_child_is_our_own_and_an_orphan_is_a_neighbour(tmp_path: Path) -> None:
    own, busy = machine._own(), machine._busy()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert machine._own() - own > 0.4
    assert machine._busy() - busy > 0.4
    own, busy, done = machine._own(), machine._busy(), tmp_path / "done"
    subprocess.run(["sh", "-c", f"({sys.executable} -c '{BURN}'; touch {done}) &"], check=True)
    while not done.exists():
        time.sleep(0.05)
    assert machine._own() - own < 0.3
    assert machine._busy() - busy > 0.4


def test_the_share_is_of_all_cpus() -> None:
    with machine.Neighbours() as neighbours:
        time.sleep(0.2)
    assert 0 <= neighbours.share <= 1.05  # ticks of 10 ms


def test_a_busy_machine_is_no_place_for_ratios() -> None:
    assert machine.objection(0.02, gpu=False) is None
    assert "others used 20% of the CPUs" in str(machine.objection(0.2, gpu=False))
    assert machine.objection(0.2, gpu=True) is None
    assert machine.objection(0.7, gpu=True) is not None


def test_the_machine_has_a_name() -> None:
    found = machine.describe()
    assert found["cpu"]
    assert 1 <= found["cpus"] <= (psutil.cpu_count() or 1)
