"""Rows of `make e2e-cluster` on several workers: JobSets, disturbed and queued, and TrainJobs; their bytes are those of one pod."""

import json
import re
from collections.abc import Callable
from typing import Any

from tests.cluster.jobs import GPU, Cluster, containers, expect, last_step, ours
from tests.cluster.kubectl import Failed, kubectl, kustomize, read, until
from tests.cluster.platform_rows import python, queue
from tests.support.disturbances import EPOCHS, evict, kill

ENGINES = ("torch", "tf")
LENGTH = EPOCHS // 2
"""in epochs, of 45 steps, of the runs that are disturbed"""
SOON = ("--log-steps=10",)
SECONDS = 1200
"""until a set is done, on a machine with two cores"""
FORBIDDEN = (
    "import socket\nwith socket.socket() as each:\n    each.settimeout(3)\n"
    "    print(each.connect_ex((__import__('os').environ['KUBERNETES_SERVICE_HOST'], 443)) == 0)"
)
"""the API server: the policy names it nowhere"""


def served(group: str) -> bool:
    return group in kubectl("api-versions").stdout.split()


def set_pods(c: Cluster, name: str) -> list[dict[str, Any]]:
    """By rank; where a rank has several, the newest one."""
    found = c.k.get("pods", "-l", f"jobset.sigs.k8s.io/jobset-name={name}")["items"]
    newest = {rank(pod): pod for pod in sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))}
    return [newest[each] for each in sorted(newest)]


def rank(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])


def ended(c: Cluster, name: str) -> str:
    return str(c.k.get("jobset", name).get("status", {}).get("terminalState", ""))


def at_work(c: Cluster, name: str, beyond: int, others: set[str]) -> list[dict[str, Any]]:
    """Both pods, none of `others`, once worker 0 is beyond that step."""

    def found() -> list[dict[str, Any]] | None:
        if state := ended(c, name):
            raise Failed(f"the JobSet {name} ended before it could be disturbed: {state}")
        pods = set_pods(c, name)
        fresh = len(pods) == 2 and not others & {pod["metadata"]["name"] for pod in pods}
        ready = fresh and all(pod["status"]["phase"] == "Running" for pod in pods)
        return pods if ready and last_step(c.k.log(pods[0]["metadata"]["name"])) > beyond else None

    return until(f"both workers of {name} at work beyond step {beyond}", found, SECONDS)


def complete(c: Cluster, name: str) -> None:
    state = until(f"the end of {name}", lambda: ended(c, name), SECONDS, pause=2)
    expect(state == "Completed", f"the JobSet {name} is {state}: {[pod['status'].get('containerStatuses') for pod in set_pods(c, name)]}")


def disturb(c: Cluster, name: str, how: Callable[[Cluster, str], None], which: int, beyond: int, seen: set[str]) -> int:
    """Disturb worker `which` beyond that step; the step from which the next pods go on."""
    pods = at_work(c, name, beyond, seen)
    seen |= {pod["metadata"]["name"] for pod in pods}
    how(c, pods[which]["metadata"]["name"])

    def continued() -> re.Match[str] | None:
        fresh = [pod for pod in set_pods(c, name) if rank(pod) == 0 and pod["metadata"]["name"] not in seen]
        return re.search(r"continues from step (\d+)", c.k.log(fresh[0]["metadata"]["name"])) if fresh else None

    step = int(until(f"{name} to go on after {how.__name__}", continued, SECONDS)[1])  # type: ignore[index]
    expect(step > 0, f"{name} began anew after {how.__name__}")
    return step


def with_policy(c: Cluster, pods: list[dict[str, Any]]) -> str:
    """That the network policy selects these pods; whether this cluster enforces it."""
    policy = c.k.get("networkpolicy", "alexnet")
    selector = ",".join(f"{key}={value}" for key, value in policy["spec"]["podSelector"]["matchLabels"].items())
    chosen = {pod["metadata"]["name"] for pod in c.k.get("pods", "-l", f"{selector},jobset.sigs.k8s.io/jobset-name")["items"]}
    expect(chosen >= {pod["metadata"]["name"] for pod in pods}, "the network policy does not select the workers")
    free = python(c, pods[0]["metadata"]["name"], FORBIDDEN).strip() == "True"
    return "the network policy selects both" + (", but this cluster's network enforces none" if free else " and is enforced")


def disturbed_set(c: Cluster, engine: str) -> str:
    if not served("jobset.x-k8s.io/v1alpha2"):
        return "not run: the cluster has no JobSet controller"
    c.k.apply(*read("k8s/networkpolicy.yaml"))
    try:
        alone = c.start(c.small(engine, f"alone-{engine}", epochs=LENGTH, words=("--shards=2",)))
        name = c.start(c.small(engine, f"pair-{engine}", epochs=LENGTH, words=SOON, source=f"k8s/jobset/{engine}-jobset.yaml"))
        seen: set[str] = set()
        policy = with_policy(c, at_work(c, name, 0, seen))
        killed = disturb(c, name, kill, 1, 60, seen)  # the first epoch's checkpoint is stored
        restarts = c.k.get("jobset", name)["status"]["restarts"]
        expect(restarts == 1, f"the set restarted {restarts} times after a kill")
        evicted = disturb(c, name, evict, 0, killed, seen)
        complete(c, name)
        restarts = c.k.get("jobset", name)["status"]["restarts"]
        expect(restarts == 1, f"the set restarted {restarts} times, though an eviction counts nothing")
        c.k.complete(alone, SECONDS)
        digest = c.model(c.uids[alone])
        expect(c.model(c.uids[name]) == digest, "the final model is another one than that of one pod with two shards")
    finally:
        c.k("delete", "networkpolicy", "alexnet")
    return (
        f"two pods; worker 1 killed: the set restarted and went on from step {killed}; worker 0 evicted: both pods replaced, went on from "
        f"{evicted}; model equal to that of one pod ({digest[:12]}…); {policy}"
    )


def torch_set(c: Cluster) -> str:
    """JobSet of two pods, torch"""
    return disturbed_set(c, "torch")


def tf_set(c: Cluster) -> str:
    """JobSet of two pods, TensorFlow"""
    return disturbed_set(c, "tf")


def queued_set(c: Cluster) -> str:
    """the JobSet queued by Kueue"""
    if not (served("kueue.x-k8s.io/v1beta2") and served("jobset.x-k8s.io/v1alpha2")):
        return "not run: the cluster has no Kueue with v1beta2, or no JobSet controller"
    documents = ours([d for d in kustomize("kueue", "k8s/jobset") if d["metadata"]["name"] == "alexnet-torch-set"])
    documents.sort(key=lambda d: d["kind"] == "JobSet")
    documents[-1]["metadata"]["name"] = "queued-pair"
    (container,) = containers(documents[-1])
    c.shrink(container, 2)
    for kind in ("requests", "limits"):  # of the quota, whether or not there is one
        container["resources"][kind]["nvidia.com/gpu"] = "1"
    with queue(c) as queue_name:
        name = c.start(documents)
        until("its workload", lambda: c.k.get("workloads.kueue.x-k8s.io")["items"])
        whole = c.k.get("jobset", name)["spec"]["suspend"] and not set_pods(c, name)
        expect(bool(whole), "with one GPU of quota a part of the set was admitted")
        patch = [{"op": "replace", "path": "/spec/resourceGroups/0/flavors/0/resources/3/nominalQuota", "value": "2"}]
        c.k("patch", "clusterqueue", queue_name, "--type=json", "-p", json.dumps(patch))
        complete(c, name)
    where = "a GPU each" if GPU else "a GPU of the quota each, computing on the CPU"
    return f"{where}: with a quota of one GPU no pod was made, with two both were, and the set completed"


def trainjob(c: Cluster) -> str:
    """Kubeflow TrainJob"""
    if not served("trainer.kubeflow.org/v1alpha1"):
        return "not run: the cluster has no Kubeflow Trainer"
    account, runtime = read("k8s/trainjob/runtime.yaml")
    c.shrink(containers(runtime)[0], 2)
    said = []
    for engine in ENGINES:
        (job,) = ours(read(f"k8s/trainjob/{engine}-trainjob.yaml"))
        c.k.apply(account, runtime, job)
        name = job["metadata"]["name"]
        until("its JobSet", lambda name=name: c.k.run("get", "jobset", name).returncode == 0)  # type: ignore[misc]
        run = c.k.get("jobset", name)["metadata"]["uid"]
        complete(c, name)
        one = c.start(c.small(engine, f"beside-{engine}", epochs=2, words=("--shards=2",)))
        c.k.complete(one, SECONDS)
        expect(c.model(run) == c.model(c.uids[one]), f"{engine}: the final model is another one than that of one pod")
        said.append(f"{engine}: complete, model equal to that of one pod ({c.model(run)[:12]}…)")
    return "; ".join(said)
