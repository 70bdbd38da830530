"""The row of `make e2e-cluster` about k8s/accept.yaml: eight indexes, of which one computes wrongly, one is slow, and one is evicted.

A GPU is a process here where the cluster has none: each index computes on the CPU, four at a time, by the GPUs that the nodes advertise if
there are so many.
"""

import json
from typing import Any

from tests.cluster.jobs import GPU, Cluster, expect, ours
from tests.cluster.kubectl import ROOT, Failed, kubectl, read, until
from tests.support.disturbances import evict

INDEXES, AT_ONCE, EVICTED, BAD, SLOW = 8, 4, 1, 3, 6
PLACE = "s3://alexnet/accept"
FAULT = {"kind": "stuck", "place": "forward", "tensor": "features.3", "bit": 20, "channel": 1}
"""a permanent one: all rounds of the index agree, so that only the others can tell"""
SMALL = ("--set=width=0.0625", "--set=image_size=64", "--set=batch_size=32", "--threads=1", "--steps=10", "--rounds=4")
CPU, LESS_CPU = "80m", "10m"
"""limits, the first one so low that also on a busy machine it, and not the others, is what holds an index back"""
START = f"""
if [ "$JOB_COMPLETION_INDEX" = {BAD} ]; then export PYTHONPATH=/planted PLANTED_FAULT='{json.dumps(FAULT)}'; fi
exec alexnet "$@"
"""


def acceptance(c: Cluster) -> str:
    """accept: bad, slow, evicted"""
    documents = small(gpus=advertised() >= AT_ONCE)
    c.k.apply(planted(), *documents)
    job: str = documents[-1]["metadata"]["name"]
    pod = until("the index that is evicted, at work", lambda: at_work(c, job, EVICTED), 600)
    evict(c, pod)
    until("its replacement", lambda: [name for name in pods_of(c, job, EVICTED) if name != pod], 240)
    lower(c, until("the slow index, at work", lambda: at_work(c, job, SLOW), 900))
    ended = until("the end of all indexes", lambda: c.k.ended(job), 1800)
    expect(ended["type"] == "Complete", f"{job}: {ended}")
    return judged(c)


def advertised() -> int:
    """GPUs that the nodes have, or say so."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json").stdout)["items"]
    return sum(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes)


def small(*, gpus: bool) -> list[dict[str, Any]]:
    """The manifest with a work of seconds; the Job is the last document."""
    documents = ours(read("k8s/accept.yaml"))
    spec = documents[-1]["spec"]
    spec |= {"completions": INDEXES, "parallelism": INDEXES if gpus else AT_ONCE}
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    kept = [word for word in container["args"] if not word.startswith(("--threads=", "--minutes="))]
    container |= {"command": ["/bin/sh", "-c", START, "accept"], "args": [*kept, *SMALL]}
    container["volumeMounts"].append({"name": "planted", "mountPath": "/planted"})
    pod["volumes"].append({"name": "planted", "configMap": {"name": "planted"}})
    for kind, cpu in (("requests", LESS_CPU), ("limits", CPU)):
        container["resources"][kind] |= {"memory": "400Mi" if kind == "requests" else "2Gi"} | ({} if GPU else {"cpu": cpu})
        if not gpus:
            container["resources"][kind].pop("nvidia.com/gpu")
    if not GPU:
        container["args"] = [word if word != "--device=cuda" else "--device=cpu" for word in container["args"]]
    return documents


def planted() -> dict[str, Any]:
    """What plants the fault, which no image has."""
    files = {path.name: path.read_text() for path in sorted((ROOT / "tests/support/planted").glob("*.py"))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted"}, "data": files}


def pods_of(c: Cluster, job: str, index: int, phase: str = "") -> list[str]:
    """Names, the oldest first."""
    label = "batch.kubernetes.io/job-completion-index"
    found = [pod for pod in c.k.pods(job) if pod["metadata"]["labels"][label] == str(index)]
    return [pod["metadata"]["name"] for pod in found if phase in ("", pod["status"].get("phase"))]


def at_work(c: Cluster, job: str, index: int) -> str:
    """The pod of that index, once its rounds have begun; "" until then."""
    if c.k.ended(job):
        raise Failed(f"{job} ended before index {index} was seen at work")
    running = pods_of(c, job, index, "Running")
    return next((name for name in running if "round 1" in c.k.log(name)), "")


def lower(c: Cluster, pod: str) -> None:
    """Another CPU limit for a pod that runs (Kubernetes 1.33 and newer)."""
    resources = {"limits": {"cpu": LESS_CPU}}
    patch = {"spec": {"containers": [{"name": "accept", "resources": resources}]}}
    c.k("patch", "pod", pod, "--subresource=resize", "-p", json.dumps(patch))


def judged(c: Cluster) -> str:
    """What `alexnet accept report` says."""
    told = json.loads(c.alexnet("accept", "report", PLACE, "--format=json", code=71))
    gpus = {gpu["index"]: gpu for node in told["nodes"] for gpu in node["gpus"]}
    states = {index: gpu["state"] for index, gpu in gpus.items()}
    expected = {index: {BAD: "fail", SLOW: "suspect"}.get(index, "pass") for index in range(INDEXES)}
    expect(states == expected, f"states {states}; {told['headline']}; {[gpu['reasons'] for gpu in gpus.values() if gpu['reasons']]}")
    bad, slow = gpus[BAD]["reasons"][0]["what"], gpus[SLOW]["reasons"][0]
    expect("features.3" in bad, f"index {BAD}: {bad}")
    expect("quota" in slow["cause"], f"index {SLOW}: {slow}")
    expect(gpus[EVICTED]["attempts"] == 2, f"index {EVICTED} was begun {gpus[EVICTED]['attempts']} times")
    (group,) = told["groups"]
    agree = {mode: vote["agree"] for mode, vote in group["bytes"].items()}
    expect(set(agree.values()) == {INDEXES - 1}, f"the evicted index came to other bytes: {agree}")
    return (
        f"{told['headline']} Index {BAD}: {bad}. Index {SLOW}: {slow['what']}; {slow['cause']}. "
        f"Index {EVICTED} ran again to the same bytes ({agree})"
    )
