"""What several end-to-end tests need: a server with a bucket, and a disk that is soon full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, weed


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """SeaweedFS with the bucket `results`."""
    with weed() as running:
        running.make_bucket("results")
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    if os.geteuid() != 0:
        pytest.skip("a file system of limited size needs root")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
