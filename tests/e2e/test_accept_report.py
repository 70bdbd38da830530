"""`alexnet accept report` over a real S3 server, as a command."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from job.cli.accept_report import report
from job.core.exits import Exit
from job.storage.opening import open_store
from tests.support.servers import Server
from tests.support.verdicts import stored, verdict


def test_a_fleet_in_a_bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """TEST_GPUS=1000 is how the time in docs/accept.md was measured."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    count = int(os.environ.get("TEST_GPUS", "40"))
    store = open_store("s3://results/accept")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: stored(store, f"uid-{n}", verdict(n, pace=0.7 if n == 7 else 1.0)), range(count)))
    begun, worked = time.monotonic(), time.process_time()
    done = CliRunner().invoke(report, ["s3://results/accept", "--output", "s3://results/page/fleet.html"], standalone_mode=False)
    print(f"{count} GPUs: {time.monotonic() - begun:.1f} s, {time.process_time() - worked:.1f} s of CPU time")
    assert done.return_value == Exit.DEVICE
    assert f"{count:,} GPUs on {count // 8} nodes: 1 is suspect, {count - 1:,} pass." in done.output
    assert "index 7, GPU 7 (GPU-00000007): images/s, bf16" in done.output
    assert b"Not accepted" in open_store("s3://results/page").get("fleet.html")
