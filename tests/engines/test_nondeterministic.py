"""Operations without a deterministic kernel: torch warns, and the run remembers; TensorFlow refuses them."""

import json
import subprocess
import sys

TORCH = """
import json, torch
from job.engines import open_engine
engine = open_engine("torch", device="cpu", threads=1)
before = engine.nondeterministic
for _ in range(2):
    torch.zeros(3).put_(torch.tensor([1]), torch.tensor([2.0]))
print(json.dumps([before, engine.nondeterministic]))
"""


def test_torch_remembers_each_and_shows_it_once() -> None:
    done = subprocess.run([sys.executable, "-c", TORCH], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert (before, after) == ([], ["put_"])
    assert done.stderr.count("put_ does not have a deterministic implementation") == 1
