"""`python -m tools.scaling [docs/scaling.md]`: the same bytes from 1, 2 and 4 workers, and through torchrun, as a table.

50 steps of a small network on real digits, dropout on, in four gradient shards, both engines, fp32 and bf16.  The table of the document
that stands after `<!-- same bytes -->` is drawn anew.  Ends with 1 where any two differ.  About six minutes on two cores.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.commands import alexnet, environment
from tests.support.workers import bytes_of, digest_of
from tools.faults import drawn

STEPS = ("--data", "digits", "--recipe", "digits", "--width", "0.0625", "--threads", "1", "--log-steps", "1", "--shards", "4")
FIFTY = ("--subset", "800", "--epochs", "2")
"""2 epochs of 25 steps of 32 images"""
WAYS = ("1 worker", "2 workers", "4 workers", "torchrun, 2 workers")


def run(engine: str, precision: str, way: str, output: Path) -> dict[str, str]:
    """Digests of what the run left."""
    name = f"{engine}-{precision}-{way.replace(' ', '-').replace(',', '')}"
    words = ["train", "--engine", engine, "--precision", precision, "--output", str(output), "--run-id", name, *STEPS, *FIFTY]
    if way.startswith("torchrun"):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "job", *words]
        done = subprocess.run(launcher, env=environment(), capture_output=True, text=True, check=False)
    else:
        done = alexnet(*words, "--workers", way[0])
    assert done.returncode == 0, done.stderr
    found = bytes_of(output, name)
    return {**{what: str(found[what]) for what in ("model", "optimizer", "logits")}, "losses": digest_of(repr(found["losses"]).encode())}


def table(output: Path) -> tuple[str, bool]:
    """In Markdown, and whether all rows of an engine and precision are equal."""
    lines = ["| engine | precision | workers | model | optimiser | predictions | losses |", "|---" * 7 + "|"]
    equal = True
    for engine in ("torch", "tensorflow"):
        for precision in ("fp32", "bf16"):
            ways = [way for way in WAYS if engine == "torch" or not way.startswith("torchrun")]
            found = [run(engine, precision, way, output) for way in ways]
            equal = equal and all(digests == found[0] for digests in found)
            for way, digests in zip(ways, found, strict=True):
                lines.append(f"| {engine} | {precision} | {way} | {' | '.join(f'`{digest[:12]}`' for digest in digests.values())} |")
    return "\n".join(lines), equal


def main(*documents: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        text, equal = table(Path(folder))
    print(text)
    for document in map(Path, documents):
        document.write_text(drawn(document.read_text(), {"same bytes": text}))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
