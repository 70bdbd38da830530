"""tests/peaks.json: the greatest memory and disk that a training in an image was seen to need; the limits in k8s/ must leave room for them."""

import json
from pathlib import Path

FILE = Path(__file__).with_name("peaks.json")


def record(image: str, what: str, *, memory_bytes: int, disk_bytes: int) -> None:
    """Keep the greater figures.  `memory_bytes`: resident, without page cache; `disk_bytes`: in /runs and /tmp together."""
    peaks = json.loads(FILE.read_text())
    found = next((p for p in peaks if (p["image"], p["what"]) == (image, what)), None)
    if found is None:
        peaks.append(found := {"image": image, "what": what, "memory_bytes": 0, "disk_bytes": 0})
    before = dict(found)
    found |= {"memory_bytes": max(found["memory_bytes"], memory_bytes), "disk_bytes": max(found["disk_bytes"], disk_bytes)}
    if found != before:
        FILE.write_text(json.dumps(sorted(peaks, key=lambda p: (p["image"], p["what"])), indent=1) + "\n")
