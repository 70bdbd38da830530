"""`python -m tools.store_cost`: S3 requests and bytes of real runs, counted, and what a thousand runs at a time would cost; three minutes.

Two runs on the digits train into the embedded S3 server, through a proxy that counts: one with the network at full width, for what a
checkpoint takes, and a small one that lasts, for what time takes.  Prices: docs/scaling.md, "A thousand runs at a time".
"""

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from job.core.recipe import Recipe
from tests.support.proxy import Proxy, Request
from tests.support.servers import weed

RUNS = 1_000
EPOCHS = 20
HOURS = 1.0
"""that one run of EPOCHS is taken to last, at 278 images/s"""
MINUTES = 5
"""between two checkpoints by time, as the manifests ask for"""
WRITE, READ, GIGABYTE_MONTH = 0.005 / 1_000, 0.0004 / 1_000, 0.023
"""US$: PUT, POST and LIST; GET and HEAD; S3 Standard.  DELETE and aborted uploads cost nothing, nor do bytes on their way in"""
RETAINED = 3
"""checkpoints of a finished run at most: the newest two and the best"""

FREE, WRITES, READS = "DELETE", "PUT, POST, LIST", "GET, HEAD"
PURPOSES = ("a checkpoint", "signs of life", "resource log", "start and end")
LOOKS = "looks for a newer attempt"
"""one for each sign of life, the others before something is stored or deleted"""
Count = Counter[str]


def price_class(method: str, query: dict[str, list[str]]) -> str:
    """By which a request is billed."""
    if method == "DELETE" or "delete" in query:
        return FREE
    listing = method == "GET" and ({"list-type", "uploads", "prefix"} & query.keys())
    return WRITES if listing or method in ("PUT", "POST") else READS


def purpose(key: str) -> str:
    """`key`: below the run's folder."""
    if key.startswith("checkpoints"):
        return PURPOSES[0]
    if key.endswith("/status.json"):
        return PURPOSES[1]
    if re.search(r"^attempts/?$|^summary\.json$", key):
        return LOOKS
    return PURPOSES[2] if "/resources-" in key else PURPOSES[3]


@dataclass
class Traffic:
    """What one run asked of the store."""

    run: str
    requests: dict[str, Count] = field(default_factory=lambda: {name: Counter() for name in (*PURPOSES, LOOKS)})
    sent: Count = field(default_factory=Counter)
    """bytes, by purpose"""
    checkpoints: int = 0
    seconds: float = 0.0

    def count(self, request: Request) -> None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        place = parts.path if f"/{self.run}/" in parts.path else query.get("prefix", [""])[0]
        key = place.partition(f"{self.run}/")[2]
        self.requests[purpose(key)][price_class(request.method, query)] += 1
        self.sent[purpose(key)] += len(request.body)
        self.checkpoints += request.method == "PUT" and key.startswith("checkpoints/") and key.endswith("/MANIFEST.json")

    def divide_looks(self) -> None:
        """Between signs of life and checkpoints."""
        beats = self.requests["signs of life"][WRITES]
        for kind, looks in self.requests.pop(LOOKS).items():
            self.requests["signs of life"][kind] += beats
            self.requests["a checkpoint"][kind] += looks - beats


def watched(run: str, *words: str) -> Traffic:
    traffic = Traffic(run)
    with weed() as server, tempfile.TemporaryDirectory() as spool:
        server.make_bucket("runs")

        def count(request: Request) -> None:
            traffic.count(request)
            proxy.requests[-1] = dataclasses.replace(request, body=b"")  # else all checkpoints would stay in memory

        with Proxy(server, decide=count) as proxy:
            command = ["train", "--engine", "torch", "--data", "digits", "--recipe", "digits", "--output", "s3://runs", "--run-id", run]
            begun = time.monotonic()
            variables = {**os.environ, **proxy.environment, "TMPDIR": spool}
            done = subprocess.run(
                [sys.executable, "-m", "job", *command, *words], env=variables, capture_output=True, text=True, check=False
            )
            traffic.seconds = time.monotonic() - begun
    traffic.divide_looks()
    if done.returncode:
        sys.exit(f"alexnet {' '.join(command)}: exit code {done.returncode}: {done.stderr[-500:]}")
    return traffic


def scaled(count: Count, factor: float) -> dict[str, float]:
    return {name: number * factor for name, number in count.items()}


def of_one_run(large: Traffic, lasting: Traffic) -> dict[str, tuple[dict[str, float], float]]:
    """Purpose → (requests by price class, bytes) of a run of EPOCHS that lasts HOURS."""
    checkpoints = EPOCHS + round(60 * HOURS / MINUTES)
    factors = {"a checkpoint": checkpoints / large.checkpoints, "start and end": 1.0}
    found = {}
    for name in PURPOSES:
        source = large if name == "a checkpoint" else lasting
        factor = factors.get(name, HOURS * 3600 / lasting.seconds)
        found[name] = scaled(source.requests[name], factor), source.sent[name] * factor
    return found


def measured_rows(large: Traffic, lasting: Traffic) -> Iterator[list[str]]:
    yield ["", WRITES, READS, FREE, "MB sent"]
    for name in PURPOSES:
        source = large if name == "a checkpoint" else lasting
        divisor = {"a checkpoint": large.checkpoints, "start and end": 1}.get(name, source.seconds / 3600)
        label = {"a checkpoint": "a checkpoint, full width", "start and end": name}.get(name, f"{name}, an hour")
        counts = scaled(source.requests[name], 1 / divisor)
        yield [label, *(f"{counts.get(kind, 0):.1f}" for kind in (WRITES, READS, FREE)), f"{source.sent[name] / divisor / 1e6:.2f}"]


def cost_rows(large: Traffic, lasting: Traffic) -> Iterator[list[str]]:
    yield [f"of {RUNS:,} runs", "requests", "US$", "requests/s"]
    one = of_one_run(large, lasting)
    for kind, price in ((WRITES, WRITE), (READS, READ), (FREE, 0.0)):
        number = RUNS * sum(counts.get(kind, 0) for counts, _ in one.values())
        yield [kind, f"{number:,.0f}", f"{number * price:.2f}", f"{number / HOURS / 3600:.0f}"]
    sent = RUNS * sum(size for _, size in one.values())
    rate = f"{sent / HOURS / 3600 / 1e9:.1f} GB/s"
    yield [f"{sent / 1e12:.1f} TB sent", "", "0.00", rate]
    left = RUNS * RETAINED * checkpoint_bytes() / 1e9
    yield [f"{left:,.0f} GB left at most, a month", "", f"{left * GIGABYTE_MONTH:.2f}", ""]


def checkpoint_bytes() -> int:
    """Model and momentum of the default network in float32."""
    return 2 * 4 * Recipe().architecture().parameters


def table(rows: Iterator[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def main() -> None:
    large = watched("large", "--width", "1", "--batch-size", "128", "--subset", "256", "--epochs", "4")
    lasting = watched("lasting", "--width", "0.0625", "--threads", "1", "--epochs", "20")
    print(f"Counted: {large.checkpoints} checkpoints of the full network; a small run of {lasting.seconds:.0f} s.\n")
    print(table(measured_rows(large, lasting)))
    print(
        f"\nComputed from it: {RUNS:,} runs at a time, {EPOCHS} epochs and {HOURS:g} h each, also a checkpoint every {MINUTES} minutes.\n"
    )
    print(table(cost_rows(large, lasting)))


if __name__ == "__main__":
    main()
