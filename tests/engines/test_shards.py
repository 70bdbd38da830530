"""The gradients of shards are added in pairs, by both engines, whatever a framework would do with several additions at once.

Every framework runs in a subprocess (`tests.engines.shards`, `tests.engines.exchange`): this one imports neither.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from job import engines
from tests.engines.exchange import SHAPES
from tests.support.servers import free_ports

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_gradients_are_added_in_pairs(engine):
    """TensorFlow's graph optimiser makes one sum of the additions in a graph, in an order of its own: each is a call of its own here."""
    command = [sys.executable, "-m", "tests.engines.shards", engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    same = json.loads(done.stdout.splitlines()[-1])
    assert same == {"in pairs": True, "in a row": False, "in one graph": False}


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_two_workers_add_tensors_of_any_shape(engine):
    """TensorFlow in several pieces."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    commands = [[sys.executable, "-m", "tests.engines.exchange", engine, str(rank), *addresses] for rank in range(2)]
    workers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands]
    for worker in workers:
        said, complaints = worker.communicate(timeout=120)
        assert worker.returncode == 0, complaints[-3000:]
        assert json.loads(said.splitlines()[-1]) == [True] * len(SHAPES)
