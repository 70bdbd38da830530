"""tests/support/peaks.json: the most memory and disk that a training in an image was seen to need; the limits in k8s/ must leave room."""

import json
import threading
from pathlib import Path
from typing import Any, Self

from tests.cluster.kubectl import Namespace, read

FILE = Path(__file__).with_name("peaks.json")
UNITS = {"Mi": 2**20, "Gi": 2**30}


def record(image: str, what: str, *, memory_bytes: int, disk_bytes: int, where: str) -> None:
    """Keep it, in place of an earlier one of the same name."""
    found: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.exists() else []
    kept = [entry for entry in found if (entry["image"], entry["what"]) != (image, what)]
    entry = {"image": image, "what": what, "memory_bytes": memory_bytes, "disk_bytes": disk_bytes, "where": where}
    FILE.write_text(json.dumps(sorted([*kept, entry], key=lambda e: (e["image"], e["what"])), indent=1) + "\n")


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def limits(name: str) -> tuple[int, int, int]:
    """(requested memory, limit of memory, limit of disk) in bytes of the container with that image in the manifests; 0: no limit."""
    for document in (d for path in ("torch-job", "tf-job", "store/storage") for d in read(f"k8s/{path}.yaml")):
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            if label(container["image"]) == name:
                resources = container["resources"]
                disk = resources["limits"].get("ephemeral-storage")
                return size(resources["requests"]["memory"]), size(resources["limits"]["memory"]), size(disk) if disk else 0
    raise KeyError(name)


def label(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[0]


class Sampler:
    """Reads the kubelets' working sets every two seconds, beside whatever else goes on."""

    def __init__(self, namespace: Namespace, pause: float = 2.0) -> None:
        self.k, self.pause = namespace, pause
        self.found: dict[str, tuple[int, int]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    def peaks(self) -> dict[str, tuple[int, int]]:
        """image → (memory, disk) in bytes"""
        return dict(self.found)

    def _work(self) -> None:
        while not self._end.wait(self.pause):
            pods = self.k.run("get", "pods", "-o", "json")
            if pods.returncode:
                continue
            images = {
                (pod["metadata"]["name"], container["name"]): label(container["image"])
                for pod in json.loads(pods.stdout)["items"]
                for container in pod["spec"]["containers"]
            }
            for node in {pod["spec"].get("nodeName") for pod in json.loads(pods.stdout)["items"]} - {None}:
                self._sample(node, images)

    def _sample(self, node: str, images: dict[tuple[str, str], str]) -> None:
        answer = self.k.run("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary")
        if answer.returncode:
            return
        for pod in json.loads(answer.stdout)["pods"]:
            if pod["podRef"]["namespace"] != self.k.name:
                continue
            for container in pod.get("containers", []):
                name = images.get((pod["podRef"]["name"], container["name"]))
                if name:
                    old = self.found.get(name, (0, 0))
                    memory = container.get("memory", {}).get("workingSetBytes", 0)
                    disk = pod.get("ephemeral-storage", {}).get("usedBytes", 0)
                    self.found[name] = (max(old[0], memory), max(old[1], disk))
