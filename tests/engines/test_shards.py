"""The gradients of shards are added in pairs, by both engines, whatever a framework would do with several additions at once.

Every framework runs in a subprocess (`tests.engines.shards`): this one imports neither.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from job import engines

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_gradients_are_added_in_pairs(engine):
    """TensorFlow's graph optimiser makes one sum of the additions in a graph, in an order of its own: each is a call of its own here."""
    command = [sys.executable, "-m", "tests.engines.shards", engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    same = json.loads(done.stdout.splitlines()[-1])
    assert same == {"in pairs": True, "in a row": False, "in one graph": False}
