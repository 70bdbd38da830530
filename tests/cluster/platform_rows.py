"""Further rows of `make e2e-cluster`: what monitoring sees, what a GitOps controller and a queue do, a spool that outlives its pod."""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.jobs import GPU, Cluster, expect, last_step
from tests.cluster.kubectl import kubectl, until
from tests.support.disturbances import EPOCHS, kill, undisturbed

ASK = (
    "import urllib.request as u; r = u.Request('http://{ip}:9464/metrics', headers={{'Accept': 'application/openmetrics-text'}});"
    "print(u.build_opener(u.ProxyHandler({{}})).open(r, timeout=10).read().decode())"
)
KNOCK = (
    "import socket\n"
    "for port in (8333, 8888, 9333, 18888):\n"
    "    with socket.socket() as each:\n"
    "        each.settimeout(3)\n"
    "        print(port, each.connect_ex(('alexnet-s3', port)) == 0)"
)


def python(c: Cluster, pod: str, script: str) -> str:
    return c.k("exec", pod, "--", "/opt/alexnet/bin/python", "-c", script)


def said_last(c: Cluster, job: str) -> dict[str, Any]:
    """The end of the Job's newest pod, as its status has it."""
    state: dict[str, Any] = c.newest_pod(job)["status"]["containerStatuses"][0]["state"]["terminated"]
    return state


def monitoring(c: Cluster) -> str:
    """metrics, logs, last words"""
    job = c.start(c.small("torch", "watched", epochs=EPOCHS // 2))
    pod = c.training(job, 0)
    ip = c.k.get("pod", pod)["status"]["podIP"]
    text = python(c, pod, ASK.format(ip=ip))
    found = {name: (labels, float(value)) for name, labels, value in re.findall(r"^alexnet_(\w+)\{(.*)\} (\S+)$", text, re.M)}
    labels, step = found["step"]
    expect(f'run="{c.uids[job]}"' in labels and step > 0, f"alexnet_step: {labels} {step}")
    expect(text.rstrip().endswith("# EOF"), "not OpenMetrics")
    ports = dict(line.split() for line in python(c, pod, KNOCK).splitlines())
    expect(ports == {"8333": "True", "8888": "False", "9333": "False", "18888": "False"}, f"ports of the store: {ports}")
    c.k.complete(job)
    lines = [json.loads(line) for line in c.k.log(pod).splitlines()]
    expect({line["run"] for line in lines[-10:]} == {c.uids[job]}, "the log's last lines do not name the run")
    good = said_last(c, job)
    expect(good["message"].startswith("finished: test accuracy"), f"the pod's message is {good['message'][:200]}")
    wrong = c.start(c.small("torch", "no-data", epochs=1, words=("--data=/absent",)))
    until("its end", lambda: c.k.ended(wrong), 300)
    bad = said_last(c, wrong)
    expect("/absent" in bad["message"] and not bad["message"].startswith("{"), f"the pod's message is {bad['message'][:200]}")
    return (
        f"{len(found)} metrics scraped at step {step:.0f}; {len(lines)} lines, all of JSON; of the store's ports only 8333 open; "
        f"message: “{good['message'][:60]}…”, after exit {bad['exitCode']}: “{bad['message'][:60]}…”"
    )


def gitops(c: Cluster) -> str:
    """applied again; made anew"""
    documents = c.small("torch", "declared", epochs=EPOCHS // 2, source="fixed-run-id")
    job = c.start(documents)
    pod, generation = c.training(job, 0), c.k.job(job)["metadata"]["generation"]
    c.k.apply(*documents)
    expect(c.k.job(job)["metadata"]["generation"] == generation, "applying the same manifest changed the Job")
    c.k.complete(job)
    expect([p["metadata"]["name"] for p in c.k.pods(job)] == [pod], "applying the same manifest disturbed the pod")
    c.k("delete", "job", job)  # as ttlSecondsAfterFinished
    c.start(documents)
    c.k.complete(job, 300)
    message = said_last(c, job)["message"]
    expect(f"run {job} is finished" in message and "nothing to do" in message, f"made anew, it said {message[:200]}")
    return "applied again while it trained: nothing changed; deleted and made anew: exit 0, “nothing to do”"


def kept_spool(c: Cluster) -> str:
    """spool-pvc, store away, killed"""
    digest = undisturbed(c)
    job = c.start(c.small("torch", "kept", epochs=EPOCHS, source="spool-pvc"))
    pod = c.training(job, 50)
    c.k("scale", "deploy/alexnet-s3", "--replicas=0")
    until("the store's end", lambda: not c.k.get("pods", "-l", "app.kubernetes.io/instance=alexnet-s3")["items"])
    away = last_step(c.k.log(pod))
    until("an epoch without the store", lambda: last_step(c.k.log(pod)) > away + 100)
    kill(c, pod)
    c.k("scale", "deploy/alexnet-s3", "--replicas=1")
    c.k("rollout", "status", "deploy/alexnet-s3", "--timeout=120s")

    def found() -> re.Match[str] | None:
        return re.search(r"continues from step (\d+)", c.k.log(c.newest_pod(job)["metadata"]["name"]))

    step = int(until("the next pod to continue", found, 300)[1])  # type: ignore[index]
    expect(step > away, f"the store was away from step {away} on, and the next pod went on from {step}")
    c.k.complete(job)
    expect(c.model(c.uids[job]) == digest, "the final model is another one than that of the undisturbed run")
    return f"the store away at step {away}, killed after {away + 100}; the next pod went on from {step}, model equal to the undisturbed one"


@contextmanager
def queue(c: Cluster) -> Iterator[str]:
    """A LocalQueue `gpus` with a quota of one GPU, and a class of higher priority, whose name is returned."""
    name, api = f"alexnet-e2e-{secrets.token_hex(4)}", "kueue.x-k8s.io/v1beta2"
    quota = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "64Gi", "nvidia.com/gpu": "1"}
    flavor = {"name": name, "resources": [{"name": kind, "nominalQuota": size} for kind, size in quota.items()]}
    shared = [
        {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": name}},
        {"apiVersion": api, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": 1000},
        {
            "apiVersion": api,
            "kind": "ClusterQueue",
            "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": c.k.name}},
                "preemption": {"withinClusterQueue": "LowerPriority"},
                "resourceGroups": [{"coveredResources": [*quota], "flavors": [flavor]}],
            },
        },
    ]
    c.k.apply(*shared, {"apiVersion": api, "kind": "LocalQueue", "metadata": {"name": "gpus"}, "spec": {"clusterQueue": name}})
    try:
        yield name
    finally:
        c.k("delete", "localqueue", "gpus", "--wait=false")
        for document in shared:
            kubectl("delete", document["kind"].lower(), name, "--wait=false")


def queued(c: Cluster, name: str, epochs: int, priority: str = "") -> list[dict[str, Any]]:
    """A Job of the components kueue and 30-epochs that asks for a GPU of the quota, whether or not there is one."""
    documents = c.small("torch", name, epochs=epochs, source="kueue+30-epochs")
    job = documents[-1]
    if priority:
        job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] = priority
    resources = job["spec"]["template"]["spec"]["containers"][0]["resources"]
    for kind in ("requests", "limits"):
        resources[kind]["nvidia.com/gpu"] = "1"
    return documents


def kueue(c: Cluster) -> str:
    """Kueue, one GPU, three Jobs"""
    if "kueue.x-k8s.io/v1beta2" not in kubectl("api-versions").stdout.split():
        return "not run: the cluster has no Kueue with v1beta2"
    digest = undisturbed(c)
    with queue(c) as high:
        first = c.start(queued(c, "preempted", EPOCHS))
        c.training(first, 50)
        second = c.start(queued(c, "waiting", 2))
        expect(c.k.job(second)["spec"]["suspend"] and not c.k.pods(second), "the second Job does not wait")
        third = c.start(queued(c, "urgent", 2, high))
        until("the first Job's preemption", lambda: c.k.job(first)["spec"]["suspend"], 120)
        for job in (third, second, first):
            c.k.complete(job, 900)
        log = c.k.log(c.newest_pod(first)["metadata"]["name"])
    continued = re.search(r"continues from step (\d+)", log)
    expect(bool(continued), "the preempted Job began anew")
    expect(c.failed(first) == 0, f".status.failed {c.failed(first)}")
    expect(c.model(c.uids[first]) == digest, "the final model is another one than that of the undisturbed run")
    where = "a GPU each" if GPU else "a GPU of the quota each, computing on the CPU"
    return (
        f"{where}: the second waited, the third preempted the first, which went on from step {continued and continued[1]}, "
        "none failed, model equal to the undisturbed one"
    )
