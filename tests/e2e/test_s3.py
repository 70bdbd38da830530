"""Results in a real S3 server: the same bytes as in a folder."""

import hashlib
import json
from pathlib import Path

import pytest

from job.storage.opening import open_store
from tests.support.commands import digest, model, train
from tests.support.servers import weed


@pytest.mark.parametrize("engine", ["torch", "tensorflow"])
def test_a_run_in_a_bucket(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(engine, tmp_path, "run").returncode == 0
    with weed() as server:
        server.make_bucket("results")
        result = train(engine, "s3://results/team", "run", **server.environment)
        assert result.returncode == 0, result.stderr
        assert server.secret not in result.stdout + result.stderr
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store("s3://results/team")
        summary = json.loads(store.get("run/summary.json"))
        for name, entry in summary["final"].items():
            assert hashlib.sha256(store.get(f"run/final/{summary['attempt']}/{name}")).hexdigest() == entry["sha256"]
        assert hashlib.sha256(store.get(f"run/{summary['model']}")).hexdigest() == digest(model(tmp_path, "run"))
        assert not any(server.secret.encode() in store.get(entry.key) for entry in store.list())
