"""The row of `make e2e-cluster` about k8s/accept.yaml: eight indexes, of which one breaks in mid-run, one is slow, and one is evicted.

A GPU is a process here where the cluster has none: each index computes on the CPU, four at a time, by the GPUs that the nodes advertise if
there are so many.  Its speed is that of its quota of CPU time, not that of its neighbours, as long as four quotas leave a node idle time.
"""

import json
from typing import Any

from tests.cluster.jobs import GPU, Cluster, expect, ours
from tests.cluster.kubectl import ROOT, Failed, kubectl, read, until
from tests.support.disturbances import evict

INDEXES, AT_ONCE, EVICTED, BAD, SLOW = 8, 4, 1, 3, 6
PLACE = "s3://alexnet/accept"
STEPS, ROUNDS = 40, 10
SMALL = ("--set=width=0.0625", "--set=image_size=64", "--set=batch_size=32", "--threads=1", f"--steps={STEPS}", f"--rounds={ROUNDS}")
"""rounds of a second and more, so that the quota is felt in each, and most of them are to come when a pod is seen at work"""
FAULT = {"kind": "stuck", "place": "forward", "tensor": "features.3", "bit": 20, "channel": 1, "step": 2 * STEPS + 1}
"""from the second round of both precisions on: the index sees it itself (71), and most of its rounds differ from those of the others"""
CPU, LESS_CPU = "300m", "40m"
"""limits"""
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
    until("its replacement", lambda: [each for each in pods_of(c, job, EVICTED) if each["metadata"]["name"] != pod], 240)
    lower(c, until("the slow index, at work", lambda: at_work(c, job, SLOW), 900))
    until("the end of all indexes", lambda: c.k.ended(job), 1800)
    failed_once(c, job)
    return judged(c)


def failed_once(c: Cluster, job: str) -> None:
    """The index that broke was not tried again, on this node or another; all others came to their end."""
    status = c.k.job(job)["status"]
    ends = [pod["status"]["containerStatuses"][0]["state"].get("terminated", {}).get("exitCode") for pod in pods_of(c, job, BAD)]
    found = (status.get("failedIndexes"), status.get("completedIndexes"), ends)
    expect(found == (str(BAD), "0-2,4-7", [71]), f"(failed indexes, complete ones, exit codes of index {BAD}): {found}")


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


def pods_of(c: Cluster, job: str, index: int) -> list[dict[str, Any]]:
    """The oldest first."""
    label = "batch.kubernetes.io/job-completion-index"
    return [pod for pod in c.k.pods(job) if pod["metadata"]["labels"][label] == str(index)]


def at_work(c: Cluster, job: str, index: int) -> str:
    """The pod of that index, once its rounds have begun; "" until then."""
    if c.k.ended(job):
        raise Failed(f"{job} ended before index {index} was seen at work")
    running = [pod["metadata"]["name"] for pod in pods_of(c, job, index) if pod["status"].get("phase") == "Running"]
    return next((name for name in running if "round 1" in c.k.log(name)), "")


def lower(c: Cluster, pod: str) -> None:
    """Another CPU limit for a pod that runs (Kubernetes 1.33 and newer)."""
    resources = {"limits": {"cpu": LESS_CPU}}
    patch = {"spec": {"containers": [{"name": "accept", "resources": resources}]}}
    c.k("patch", "pod", pod, "--subresource=resize", "-p", json.dumps(patch))

    def in_force() -> bool:
        (status,) = c.k.get("pod", pod)["status"]["containerStatuses"]
        return bool(status.get("resources", {}).get("limits", {}).get("cpu") == LESS_CPU)

    until(f"the lower limit of {pod}", in_force, 60)


def judged(c: Cluster) -> str:
    """What `alexnet accept report` says."""
    told = json.loads(c.alexnet("accept", "report", PLACE, "--format=json", code=71))
    gpus = {gpu["index"]: gpu for node in told["nodes"] for gpu in node["gpus"]}
    why = {index: [reason["what"] for reason in gpu["reasons"]] for index, gpu in gpus.items()}
    (group,) = told["groups"]
    agree = {vote["agree"] for vote in group["bytes"].values()}
    expected = {index: {BAD: "fail", SLOW: "suspect"}.get(index, "pass") for index in range(INDEXES)}
    try:
        expect({index: gpu["state"] for index, gpu in gpus.items()} == expected, "others were named")
        expect("other bytes than the majority, 7 of 8" in why[BAD][0], f"index {BAD} was not named by its bytes")
        expect(any(f"1 of {ROUNDS} rounds" in what and "activations/features.3" in what for what in why[BAD]), f"index {BAD} saw nothing")
        expect("images/s" in why[SLOW][0] and "quota" in gpus[SLOW]["reasons"][0]["cause"], f"index {SLOW} was not named by its speed")
        expect(gpus[EVICTED]["attempts"] == 2, f"index {EVICTED} was begun {gpus[EVICTED]['attempts']} times")
        expect(agree == {INDEXES - 1}, f"the evicted index came to other bytes: {agree}")
    except Failed as failed:
        raise Failed(f"{failed}\n{figures(told)}") from None
    slow = gpus[SLOW]["reasons"][0]
    return (
        f"{told['headline']} Index {BAD}: 71, one pod; {'; '.join(why[BAD])}. Index {SLOW}: {slow['what']}; {slow['cause']}. "
        f"Index {EVICTED} ran again to the same bytes"
    )


def figures(told: dict[str, Any]) -> str:
    """What the judgement was made from."""
    lines = [told["headline"], *told["notes"]]
    for group in told["groups"]:
        for name, each in group["figures"].items():
            lines.append(f"{name}: median {each['median']:.4g}, deviation {each['deviation']:.3g}, limit {each['low']:.4g}")
    for gpu in sorted((gpu for node in told["nodes"] for gpu in node["gpus"]), key=lambda gpu: gpu["index"]):
        values = ", ".join(f"{name} {value:.4g}" for name, value in gpu["figures"].items())
        lines.append(f"index {gpu['index']} {gpu['state']}: {values}; {[(each['what'], each['cause']) for each in gpu['reasons']]}")
    return "\n".join(lines)
