"""What lies in a bucket, read with a client of its own, and what must hold of it."""

import hashlib
import json
from typing import Any

from tests.support.servers import Server


def objects(server: Server, bucket: str = "results") -> dict[str, bytes]:
    """Key → content of all objects."""
    client = server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verified(found: dict[str, bytes], run: str) -> dict[str, Any]:
    """The run's summary, after every digest of its final objects and of all its checkpoints was found right."""
    summary: dict[str, Any] = json.loads(found[f"{run}/summary.json"])
    for name, entry in summary["final"].items():
        assert digest(found[f"{run}/final/{summary['attempt']}/{name}"]) == entry["sha256"], name
    manifests = [key for key in found if key.startswith(f"{run}/checkpoints/") and key.endswith("/MANIFEST.json")]
    assert manifests
    for key in manifests:
        for name, entry in json.loads(found[key])["files"].items():
            assert digest(found[key.replace("MANIFEST.json", name)]) == entry["sha256"], f"{key}: {name}"
    assert f"{run}/{summary['model']}" in found
    return summary


def lines(found: dict[str, bytes], run: str) -> list[dict[str, Any]]:
    """metrics.jsonl of the final results."""
    summary = json.loads(found[f"{run}/summary.json"])
    return [json.loads(line) for line in found[f"{run}/final/{summary['attempt']}/metrics.jsonl"].splitlines()]


def losses(found: dict[str, bytes], run: str) -> list[tuple[int, float]]:
    """(step, loss) of every logging interval, in the order in which they are stored."""
    return [(line["step"], line["last_loss"]) for line in lines(found, run) if line["kind"] == "interval"]


def folder_objects(folder: Any) -> dict[str, bytes]:
    """The same of a run's output folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
