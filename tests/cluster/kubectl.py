"""kubectl on the current context, in one namespace."""

import json
import os
import secrets
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

ROOT = Path(__file__).parents[2]
KUBECTL = Path(sysconfig.get_path("scripts")) / "kubectl"
COMPONENTS = sorted(p.parent.name for p in (ROOT / "k8s-variants").glob("*/kustomization.yaml") if p.parent.name != "example")
COMBINED = [
    "kueue+spot+30-epochs",
    "spot+kueue+pretrained",
    "seeds+spot+spool-pvc",
    "openshift+pull-secret+runtime-class+spool-pvc+storage-class",
    "results-pvc+data-from-bucket+fixed-run-id",
    "dra+kueue+30-epochs+data-from-bucket+pod-monitor",
    "several-gpus+kueue+spot",
]
VARIANTS = ["k8s", "k8s-variants/example", *COMPONENTS, *COMBINED]
"""what `kustomize` takes"""
MARK = "alexnet-job/e2e"
"""label of the namespaces that these tests make"""


class Failed(Exception):  # noqa: N818  an answer of a check rather than an error of the program
    """Something did not hold."""


def kustomize(source: str, over: str = "k8s") -> list[dict[str, Any]]:
    """A folder with a kustomization, or components of k8s-variants over one: `kueue+spot`."""
    if (ROOT / source).is_dir():
        return _rendered(ROOT / source)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        components = [os.path.relpath(ROOT / "k8s-variants" / component, folder) for component in source.split("+")]
        overlay = {"resources": [os.path.relpath(ROOT / over, folder)], "components": components}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return _rendered(folder)


def _rendered(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def read(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def as_list(documents: list[dict[str, Any]]) -> str:
    return json.dumps(documents[0] if len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": documents})


def context() -> str:
    """Name and server of the cluster that kubectl talks to.  Failed where there is none."""
    view = kubectl("config", "view", "--minify", "-o", "jsonpath={.current-context}{', '}{.clusters[0].cluster.server}")
    if view.returncode:
        raise Failed(f"kubectl has no current context: {view.stderr.strip()}")
    return view.stdout


@contextmanager
def own_namespace(name: str, *, keep: bool) -> Iterator[None]:
    """A new namespace; Failed where there is one of that name.  Deleted by the label that only this one has, never by name."""
    own = f"{MARK}={secrets.token_hex(8)}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")} | {MARK: own.partition("=")[2]}
    made = kubectl("create", "-f", "-", documents=[{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    if made.returncode:
        raise Failed(f"the namespace {name} could not be made: {made.stderr.strip()}")
    try:
        yield
    finally:
        if keep:
            print(f"KEEP=1: to clean up, `kubectl delete namespace -l {own}`", flush=True)
        else:
            kubectl("delete", "namespace", "-l", own, "--wait=false")


def kubectl(*words: str, documents: list[dict[str, Any]] | None = None, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    text = None if documents is None else as_list(documents)
    return subprocess.run([KUBECTL, *words], input=text, capture_output=True, text=True, check=False, timeout=seconds)


class Namespace:
    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *words: str, documents: list[dict[str, Any]] | None = None, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return kubectl("-n", self.name, *words, documents=documents, seconds=seconds)

    def __call__(self, *words: str, documents: list[dict[str, Any]] | None = None) -> str:
        """What kubectl printed.  Failed with its message if it did not end with 0."""
        done = self.run(*words, documents=documents)
        if done.returncode:
            raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def get(self, *words: str) -> Any:
        return json.loads(self("get", *words, "-o", "json"))

    def apply(self, *documents: dict[str, Any]) -> None:
        self("apply", "-f", "-", documents=list(documents))

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("job", name)
        return found

    def pods(self, job: str) -> list[dict[str, Any]]:
        """Oldest first."""
        found = self.get("pods", "-l", f"batch.kubernetes.io/job-name={job}")["items"]
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def log(self, pod: str) -> str:
        return self.run("logs", pod).stdout

    def ended(self, job: str) -> dict[str, Any] | None:
        """The condition Complete or Failed, once there."""
        conditions = self.job(job).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)

    def complete(self, job: str, seconds: float = 600) -> None:
        condition = until(f"the end of Job {job}", lambda: self.ended(job), seconds)
        if condition["type"] != "Complete":
            logs = [self.log(p["metadata"]["name"])[-600:] for p in self.pods(job)]
            raise Failed(f"Job {job}: {condition.get('reason')} {condition.get('message')}\n" + "\n".join(logs))

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[int]:
        """A local port that leads to the service; brought back whenever its pod is replaced."""
        with socket.socket() as each:
            each.bind(("127.0.0.1", 0))
            local = each.getsockname()[1]
        command = f'while :; do "{KUBECTL}" -n {self.name} port-forward service/{service} {local}:{port} >/dev/null 2>&1; sleep 1; done'
        process = subprocess.Popen(["/bin/sh", "-c", command], start_new_session=True)
        try:
            until("the way to the store", lambda: _open(local), 60)
            yield local
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def _open(port: int) -> bool:
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) == 0


T = TypeVar("T")


def until(what: str, found: Callable[[], T], seconds: float = 180, pause: float = 0.5) -> T:
    """What `found` returns, once it is true.  Failed after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if value := found():
            return value
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
