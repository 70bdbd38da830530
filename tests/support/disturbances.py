"""What happens to a training on a cluster: deletion, eviction, a kill; and a run to which nothing happens."""

import re
import shlex
import subprocess
from collections.abc import Callable

from tests.cluster.jobs import GPU, Cluster, stored_step
from tests.cluster.kubectl import KUBECTL, Failed, until

EPOCHS = 400 if GPU else 40
"""of a run that is disturbed: about a minute on a CPU"""
DIGEST = (
    "import hashlib, json, pathlib; run = pathlib.Path({run!r});"
    "model = run / json.loads((run / 'summary.json').read_text())['model'];"
    "print('digest', hashlib.sha256(model.read_bytes()).hexdigest())"
)
"""prints the digest of the final model of a run in a folder"""


def undisturbed(c: Cluster) -> str:
    """The digest of the model of a run of EPOCHS epochs in a folder, on the same machine."""
    if c.undisturbed:
        return c.undisturbed
    job = c.small("torch", "undisturbed", epochs=EPOCHS)[-1]
    container = job["spec"]["template"]["spec"]["containers"][0]
    words = [a if not a.startswith("--output=") else "--output=/runs" for a in container["args"]] + ["--run-id=undisturbed"]
    show = DIGEST.format(run="/runs/undisturbed")
    container["command"] = ["/bin/sh", "-c", f"alexnet {shlex.join(words)} && /opt/alexnet/bin/python -c {shlex.quote(show)}"]
    container.pop("args")
    c.k.apply(*c.small("torch", "undisturbed", epochs=1)[:-1], job)
    c.undisturbed = printed_digest(c, "undisturbed")
    return c.undisturbed


def printed_digest(c: Cluster, job: str) -> str:
    """What DIGEST printed in the Job's pod."""
    c.k.complete(job, 900)
    found = re.search(r"^digest (\w+)$", c.k.log(c.newest_pod(job)["metadata"]["name"]), re.M)
    if not found:
        raise Failed(f"{job} printed no digest")
    return found[1]


def delete(c: Cluster, pod: str) -> None:
    c.k("delete", "pod", pod, "--wait=false")


def evict(c: Cluster, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": c.k.name}}
    c.k("create", "--raw", f"/api/v1/namespaces/{c.k.name}/pods/{pod}/eviction", "-f", "-", documents=[body])


def kill(c: Cluster, pod: str) -> None:
    """The training, which is the child of process 1."""
    c.k("exec", pod, "--", "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)")


def follow(c: Cluster, pod: str) -> "subprocess.Popen[str]":
    """Its log to the end, which goes with the pod."""
    return subprocess.Popen([KUBECTL, "-n", c.k.name, "logs", "-f", pod], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def disturb(c: Cluster, job: str, how: Callable[[Cluster, str], None], beyond: int) -> tuple[int, int]:
    """(the step that was stored, the step from which the next pod continues)"""
    pod = c.training(job, beyond)
    names = {p["metadata"]["name"] for p in c.k.pods(job)}
    with follow(c, pod) as log:
        how(c, pod)
        said = log.communicate(timeout=240)[0]
    fresh = until(f"a pod after {pod}", lambda: [p for p in c.k.pods(job) if p["metadata"]["name"] not in names], 240)
    name = fresh[-1]["metadata"]["name"]
    text = until(f"{name} to continue", lambda: re.search(r"continues from step (\d+)", c.k.log(name)), 240)
    stored = stored_step(said) if how is not kill else newest_checkpoint(c, c.uids[job], int(text[1]))
    return stored, int(text[1])


def newest_checkpoint(c: Cluster, run: str, found: int) -> int:
    """The step of the newest complete checkpoint of attempts before the newest one."""
    keys = c.keys(run)
    attempts = sorted({key.split("/")[1] for key in keys if key.startswith("attempts/")})
    checkpoints = [key.split("/")[1] for key in keys if key.startswith("checkpoints/") and key.endswith("MANIFEST.json")]
    return max((int(name[5:13]) for name in checkpoints if name[14:] != attempts[-1]), default=found)
