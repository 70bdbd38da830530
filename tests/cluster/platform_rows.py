"""Further rows of `make e2e-cluster`: what monitoring sees, what a GitOps controller and a queue do, a spool that outlives its pod."""

import json
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.jobs import GPU, Cluster, expect, last_step, ours, stored_step
from tests.cluster.kubectl import Failed, kubectl, kustomize, until
from tests.support.disturbances import DIGEST, EPOCHS, delete, disturb, evict, follow, kill, printed_digest, undisturbed

ASK = (
    "import urllib.request as u; r = u.Request('http://{host}:9464/metrics', headers={{'Accept': 'application/openmetrics-text'}});"
    "print(u.build_opener(u.ProxyHandler({{}})).open(r, timeout=10).read().decode())"
)
CLOSED = (8888, 18888, 9333, 19333, 8080, 18080)
"""where SeaweedFS's filer, master and volume server listen, if they are let to"""
KNOCK = (
    "import errno, socket\n"
    "for port in (8333, *{closed}):\n"
    "    with socket.create_connection(('{ip}', 8333)) as each: pass\n"
    "    with socket.socket(each.family) as each:\n"
    "        each.settimeout(5)\n"
    "        print(port, errno.errorcode.get(each.connect_ex(('{ip}', port)), 'open'))"
)
"""on the pod itself: a Service shows no more than what it forwards"""


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
    text = python(c, pod, ASK.format(host=f"[{ip}]" if ":" in ip else ip))
    found = {name: (labels, float(value)) for name, labels, value in re.findall(r"^alexnet_(\w+)\{(.*)\} (\S+)$", text, re.M)}
    labels, step = found["step"]
    expect(f'run="{c.uids[job]}"' in labels and step > 0, f"alexnet_step: {labels} {step}")
    expect(text.rstrip().endswith("# EOF"), "not OpenMetrics")
    (store,) = c.k.get("pods", "-l", "app.kubernetes.io/instance=alexnet-s3")["items"]
    ports = dict(line.split() for line in python(c, pod, KNOCK.format(ip=store["status"]["podIP"], closed=CLOSED)).splitlines())
    expect(ports == {"8333": "open"} | {str(port): "ECONNREFUSED" for port in CLOSED}, f"ports of the store: {ports}")
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
    documents = c.small("torch", "declared", epochs=EPOCHS // 2, source="fixed-run-id+openshift")
    documents[-1]["spec"]["template"]["spec"]["securityContext"] |= {"runAsUser": 1000650000, "fsGroup": 1000650000}  # as OpenShift assigns
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
    return "applied again while it trained: nothing changed; deleted and made anew: exit 0, “nothing to do”; as user 1000650000"


def kept_spool(c: Cluster) -> str:
    """spool-pvc, store away, killed"""
    digest = undisturbed(c)
    documents = c.small("torch", "kept", epochs=EPOCHS, source="spool-pvc+storage-class")
    for claim in (d for d in documents if d["kind"] == "PersistentVolumeClaim"):
        claim["spec"]["storageClassName"] = c.k.get("pvc", "alexnet-s3")["spec"]["storageClassName"]
    job = c.start(documents)
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
        documents = queued(c, "preempted", EPOCHS)
        first = c.start(documents)
        pod = c.training(first, 50)
        second = c.start(queued(c, "waiting", 2))
        expect(c.k.job(second)["spec"]["suspend"] and not c.k.pods(second), "the second Job does not wait")
        with follow(c, pod) as log:
            third = c.start(queued(c, "urgent", 2, high))
            until("the first Job's preemption", lambda: c.k.job(first)["spec"]["suspend"], 120)
            stored = stored_step(log.communicate(timeout=240)[0])
        c.k.complete(third, 900)
        until("the first Job's admission", lambda: not c.k.job(first)["spec"]["suspend"], 600)
        c.k.apply(*documents)
        expect(not c.k.job(first)["spec"]["suspend"], "applying the manifest again suspended a Job at work")
        for job in (first, second):
            c.k.complete(job, 900)
    step = continued_from(c, first)
    expect(step == stored, f"step {stored} was stored at the preemption, and the Job went on from {step}")
    expect(c.failed(first) == 0, f".status.failed {c.failed(first)}")
    expect(c.model(c.uids[first]) == digest, "the final model is another one than that of the undisturbed run")
    where = "a GPU each" if GPU else "a GPU of the quota each, computing on the CPU"
    return (
        f"{where}: the second waited, the third preempted the first, which stored step {stored} and went on from there, "
        "none failed, applied again nothing changed, model equal to the undisturbed one"
    )


def continued_from(c: Cluster, job: str) -> int:
    """The step at which the Job's newest pod began."""
    found = re.search(r"continues from step (\d+)", c.k.log(c.newest_pod(job)["metadata"]["name"]))
    if not found:
        raise Failed(f"the last pod of {job} began anew")
    return int(found[1])


def lost_driver(c: Cluster) -> str:
    """a node without a driver"""
    if GPU:
        return "not run: with GPU=0 the device of a pod can be changed between two of them"
    digest = undisturbed(c)
    documents = c.small("torch", "moved", epochs=EPOCHS)
    train = documents[-1]["spec"]["template"]["spec"]["containers"][0]
    train["args"] = [a for a in train["args"] if not a.startswith("--device=")]
    train["envFrom"].append({"secretRef": {"name": "alexnet-node"}})

    def node(device: str) -> None:
        c.k.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "alexnet-node"}, "stringData": {"ALEXNET_DEVICE": device}})

    node("cpu")
    job = c.start(documents)
    pod = c.training(job, 50)
    with follow(c, pod) as log:
        node("cuda")  # which the next node has not
        delete(c, pod)
        stored = stored_step(log.communicate(timeout=240)[0])
    until("a failed pod", lambda: c.failed(job), 240)
    node("cpu")  # elsewhere
    (lost,) = [p for p in c.k.pods(job) if p["status"]["phase"] == "Failed" and p["metadata"]["name"] != pod]
    end = lost["status"]["containerStatuses"][0]["state"]["terminated"]
    expect(end["exitCode"] == 71 and "Another node may do" in end["message"], f"exit {end['exitCode']}: {end['message'][:300]}")
    c.k.complete(job)
    step = continued_from(c, job)
    expect(step == stored, f"step {stored} was stored, the pod after the one without a driver went on from {step}")
    expect(c.failed(job) == 1, f".status.failed {c.failed(job)}")
    expect(c.model(c.uids[job]) == digest, "the final model is another one than that of the undisturbed run")
    return f"stored step {stored}; the next pod found no driver: 71, counted once; the one after it went on from {step}, model equal"


def combined(c: Cluster) -> str:
    """components combined"""
    digest, source = undisturbed(c), "results-pvc+data-from-bucket+fixed-run-id+spot"
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    c.k.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "alexnet-results"}, "spec": claim})
    push = ours(kustomize("k8s/dataset"))
    push[0]["spec"]["template"]["spec"]["containers"][0]["args"][2] = "digits"
    c.k.apply(*push)
    c.k.complete("alexnet-dataset")
    job = c.start(c.small("torch", "combined", epochs=EPOCHS, source=source, words=("--data=s3://alexnet/cifar10",)))
    stored, resumed = disturb(c, job, evict, 0)
    expect(stored == resumed > 0, f"step {stored} was stored, the next pod went on from {resumed}")
    c.k.complete(job)
    expect(c.failed(job) == 0, f".status.failed {c.failed(job)}")
    look = c.small("torch", "look", epochs=1, source=source)
    train = look[-1]["spec"]["template"]["spec"]["containers"][0]
    script = shlex.quote(DIGEST.format(run=f"/results/{job}"))
    train |= {"command": ["/bin/sh", "-c", f"alexnet runs /results && /opt/alexnet/bin/python -c {script}"], "args": []}
    found = printed_digest(c, c.start(look))
    expect(found == digest, "the final model is another one than that of the undisturbed run")
    return (
        f"{source}: the dataset from the bucket, evicted with 15 s of grace at step {stored} and continued there, results in "
        f"/results/{job}, model equal to the undisturbed one"
    )
