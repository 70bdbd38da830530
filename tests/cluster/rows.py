"""What `make e2e-cluster` shows, one function a row: returns what was seen, raises Failed if something did not hold."""

import contextlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.cluster.acceptance_row import acceptance
from tests.cluster.jobs import BUCKET, GPU, OUTPUT, Cluster, expect, ours, stored_step
from tests.cluster.kubectl import VARIANTS, Failed, kubectl, kustomize, read, until
from tests.cluster.platform_rows import combined, gitops, kept_spool, kueue, lost_driver, monitoring
from tests.cluster.set_rows import queued_set, tf_set, torch_set, trainjob
from tests.support.disturbances import EPOCHS, delete, disturb, evict, follow, kill, undisturbed
from tests.support.peaks import limits, record

FILES = [f"k8s/{name}.yaml" for name in ("torch-job", "tf-job", "store/storage", "dataset/push", "networkpolicy", "accept")]
SETS = ["k8s/jobset", "k8s/trainjob"]
"""of controllers that a cluster may not have"""

Row = Callable[[Cluster], str]


def dry_run(c: Cluster) -> str:
    """server-side dry run"""
    count, served = 0, kubectl("api-versions").stdout.split()  # PodMonitor is the operator's, claims of devices are young
    for source in [*FILES, *SETS, *VARIANTS]:
        documents = [d for d in ours(read(source) if source.endswith(".yaml") else kustomize(source)) if d["apiVersion"] in served]
        done = c.k.run("apply", "--dry-run=server", "--warnings-as-errors", "-f", "-", documents=documents)
        expect(done.returncode == 0 and "Warning" not in done.stderr, f"{source}: {done.stderr.strip()}")
        count += len(documents)
    kinds = "with" if "jobset.x-k8s.io/v1alpha2" in served else "without"
    return f"{len(FILES)} manifests ({kinds} JobSets) and {len(VARIANTS)} variants, {count} objects: no error, no warning"


def storage(c: Cluster) -> str:
    """k8s/store"""
    c.make_secret()
    c.k.apply(*ours(kustomize("k8s/store")))
    c.k("rollout", "status", "deploy/alexnet-s3", "--timeout=100s")
    phase = c.k.get("pvc", "alexnet-s3")["status"]["phase"]
    expect(phase == "Bound", f"the claim is {phase}")
    who = c.k("exec", "deploy/alexnet-s3", "--", "id", "-u").strip()
    expect(who == "65532", f"the store runs as {who}")
    written = c.k.run("exec", "deploy/alexnet-s3", "--", "sh", "-c", "touch /x")
    expect("Read-only file system" in written.stderr, f"writing to /: {written.stderr.strip()}")
    with c.k.forwarded("alexnet-s3", 8333) as port:
        names = [b["Name"] for b in c.s3(port).list_buckets()["Buckets"]]
        c.secret["AWS_SECRET_ACCESS_KEY"], right = "wrong", c.secret["AWS_SECRET_ACCESS_KEY"]
        try:
            c.s3(port).list_buckets()
            raise Failed("a wrong key is let in")
        except ClientError:
            pass
        finally:
            c.secret["AWS_SECRET_ACCESS_KEY"] = right
    expect(names == [BUCKET], f"buckets {names}")
    return "PVC bound, bucket made by the store's own image, uid 65532, read-only root, a wrong key refused"


def both_engines(c: Cluster) -> str:
    """torch and tf Job"""
    names = [c.start(c.small(engine, f"both-{engine}", epochs=3)) for engine in ("torch", "tf")]
    for name in names:
        c.k.complete(name)
    runs = [c.uids[name] for name in names]
    listed = {row["run"]: row for row in json.loads(c.alexnet("runs", OUTPUT, "--json"))}
    for run in runs:
        expect(listed.get(run, {}).get("state") == "finished", f"`alexnet runs` on {run}: {listed.get(run)}")
    compared = c.alexnet("compare", *(f"{OUTPUT}/{run}" for run in runs))
    verdict = next((line for line in compared.splitlines() if "erdict" in line), compared.strip().splitlines()[-1])
    accuracies = " and ".join(f"{listed[run]['engine']} {listed[run]['test_accuracy']:.2%}" for run in runs)
    return f"complete, listed under their uids ({accuracies}), compared: {verdict.strip()[:100]}"


def disruptions(c: Cluster) -> str:
    """deleted, evicted, killed"""
    digest = undisturbed(c)
    job = c.start(c.small("torch", "disturbed", epochs=EPOCHS))
    steps, counts, beyond = [], [], 0
    for how in (delete, evict, kill):
        stored, resumed = disturb(c, job, how, beyond)
        expect(stored == resumed > 0, f"{how.__name__}: step {stored} was stored, the next pod continued from {resumed}")
        steps.append(resumed)
        beyond = resumed
        counts.append(until_counted(c, job, 1 if how is kill else 0))
    expect(counts == [0, 0, 1], f".status.failed was {counts}")
    c.k.complete(job)
    expect(c.model(c.uids[job]) == digest, "the final model is another one than that of the undisturbed run")
    return (
        f".status.failed {counts}, continued from the exact steps {steps}, model.safetensors equal to the undisturbed one ({digest[:12]}…)"
    )


def until_counted(c: Cluster, job: str, expected: int) -> int:
    with contextlib.suppress(Failed):
        until("the count", lambda: c.failed(job) >= max(expected, 1), 30 if expected else 3)
    return c.failed(job)


def outage(c: Cluster) -> str:
    """store away for 60 s"""
    digest = undisturbed(c)
    job = c.start(c.small("torch", "outage", epochs=EPOCHS))
    c.training(job, 100)
    c.k("scale", "deploy/alexnet-s3", "--replicas=0")
    until("the store's end", lambda: not c.k.get("pods", "-l", "app.kubernetes.io/instance=alexnet-s3")["items"])
    time.sleep(60)
    c.k("scale", "deploy/alexnet-s3", "--replicas=1")
    c.k("rollout", "status", "deploy/alexnet-s3", "--timeout=120s")
    c.k.complete(job)
    pods = c.k.pods(job)
    expect(len(pods) == 1 and c.failed(job) == 0, f"{len(pods)} pods, {c.failed(job)} failed")
    log = c.k.log(pods[0]["metadata"]["name"])
    run = c.uids[job]
    lines = [json.loads(line) for line in c.fetch(run, f"final/{c.summary(run)['attempt']}/metrics.jsonl").splitlines()]
    epochs = sum(line["kind"] == "epoch" for line in lines)
    expect(epochs == EPOCHS, f"{epochs} of {EPOCHS} epochs are in metrics.jsonl")
    expect(c.model(run) == digest, "the final model is another one than that of the undisturbed run")
    expect("trying again" in log, "the outage was not noticed: the log does not name it")
    return f"one pod, none failed, {epochs} epochs recorded, the log names the outage, model equal to the undisturbed one"


def at_once(c: Cluster, job: str, code: int) -> str:
    """The Job failed by its policy with one pod of that exit code; its log."""
    condition = until(f"the end of {job}", lambda: c.k.ended(job), 300)
    pods = c.k.pods(job)
    expect((condition["type"], condition.get("reason")) == ("Failed", "PodFailurePolicy"), f"{job}: {condition}")
    expect(len(pods) == 1, f"{job}: {len(pods)} pods")
    state = pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    expect(state["exitCode"] == code, f"{job}: exit code {state['exitCode']}: {state.get('message', '')[-300:]}")
    return str(state.get("message", ""))


def counted(c: Cluster, job: str, code: int) -> str:
    """The Job's first pod ended with that code, which counts against its backoff limit; its log."""
    until(f"a failed pod of {job}", lambda: c.failed(job), 300)
    expect(c.k.ended(job) is None, f"{job} ended: {c.k.ended(job)}")
    state = c.k.pods(job)[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    expect(state["exitCode"] == code, f"{job}: exit code {state['exitCode']}: {state.get('message', '')[-300:]}")
    return str(state.get("message", ""))


def refusals(c: Cluster) -> str:
    """wrong flag; no GPU"""
    at_once(c, c.start(c.small("torch", "wrong-flag", epochs=1, words=("--no-such-flag",))), 2)
    at_once(c, c.start(as_run(c.small("torch", "no-id", epochs=1), "")), 2)
    if GPU:
        return (
            "wrong flag, empty run id: 2, PodFailurePolicy, one pod (no node without a GPU to show 71 on: run with GPU=0 on such a cluster)"
        )
    why = []
    for engine in ("torch", "tf"):
        documents = ours(read(f"k8s/{engine}-job.yaml"))
        train = documents[-1]["spec"]["template"]["spec"]["containers"][0]
        train["args"].append("--data=digits")  # pods may have no way to the internet
        train["resources"]["requests"]["cpu"] = "100m"
        message = counted(c, c.start(documents), 71)
        expect("sees no usable GPU" in message, f"the message does not say why: {message[-300:]}")
        why.append(next(line for line in message.splitlines() if "GPU" in line))
        c.k("delete", "job", documents[-1]["metadata"]["name"])
    return f"wrong flag, empty run id: 2; PodFailurePolicy, one pod each; the GPU Jobs: 71, counted; the message: {why[0][:140]}…"


def late_secret_and_suspension(c: Cluster) -> str:
    """late Secret; suspended"""
    c.k("delete", "secret", "alexnet-s3")
    try:
        job = c.start(c.small("torch", "patient", epochs=EPOCHS // 2))

        def waits() -> bool:
            states = c.newest_pod(job)["status"].get("containerStatuses", [])
            return bool(states) and states[0]["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"

        until("the pod to wait for the Secret", waits, 120)
    finally:
        c.make_secret()
    pod = c.training(job, 0)
    with follow(c, pod) as log:
        c.k("patch", "job", job, "--type=merge", "-p", '{"spec": {"suspend": true}}')
        stored = stored_step(log.communicate(timeout=240)[0])
    until("the pod's end", lambda: not [p for p in c.k.pods(job) if p["status"]["phase"] in ("Pending", "Running")])
    c.k("patch", "job", job, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    found = until("it to go on", lambda: re.search(r"continues from step (\d+)", c.k.log(c.newest_pod(job)["metadata"]["name"])), 240)
    expect(int(found[1]) == stored, f"step {stored} was stored, it went on from {found[1]}")
    c.k.complete(job)
    return f"the pod waited and started; suspended at step {stored}, went on from {found[1]}, complete, failed {c.failed(job)}"


def as_run(documents: list[dict[str, Any]], run: str) -> list[dict[str, Any]]:
    """As docs/cluster.md says to continue another Job's run."""
    env = documents[-1]["spec"]["template"]["spec"]["containers"][0]["env"]
    expect(env[0]["name"] == "ALEXNET_RUN_ID", f"the manifest's first variable is {env[0]}")
    env[0] = {"name": "ALEXNET_RUN_ID", "value": run}
    return documents


def same_run(c: Cluster) -> str:
    """two Jobs, one run"""
    begun = time.monotonic()
    first = c.start(c.small("torch", "first", epochs=EPOCHS))
    run = c.uids[first]
    c.training(first, 0)
    second = c.start(as_run(c.small("torch", "second", epochs=EPOCHS), run))
    ends = [until(f"the end of {job}", lambda job=job: c.k.ended(job), 1200)["type"] for job in (first, second)]  # type: ignore[misc]
    took = time.monotonic() - begun
    summaries = [key for key in c.keys(run) if key.endswith("summary.json")]
    expect(summaries == ["summary.json"], f"summaries {summaries}")
    expect("Complete" in ends, f"both Jobs: {ends}")
    failures = [c.failed(job) for job in (first, second)]
    expect(failures[0] == 0, f"the Job that was first was disturbed: failed {failures}")
    attempts = len({key.split("/")[1] for key in c.keys(run) if key.startswith("attempts/")})
    if c.undisturbed:
        expect(c.model(run) == c.undisturbed, "the final model is another one than that of the undisturbed run")
    stored, went_on = continued(c)
    return (
        f"both ended within {took:.0f} s ({', '.join(ends)}; failed {failures}, {attempts} attempts), one summary.json; "
        f"a deleted Job's run continued in a new Job: stored {stored}, went on from {went_on}"
    )


def continued(c: Cluster) -> tuple[int, int]:
    """A Job is deleted in mid-run; a new one is given its run."""
    job = c.start(c.small("torch", "given-up", epochs=60))
    run = c.uids[job]
    with follow(c, c.training(job, 0)) as log:
        c.k("delete", "job", job, "--wait=false")
        stored = stored_step(log.communicate(timeout=240)[0])
    new = c.start(as_run(c.small("torch", "taken-up", epochs=60), run))
    c.k.complete(new)
    found = re.search(r"continues from step (\d+)", c.k.log(c.newest_pod(new)["metadata"]["name"]))
    expect(bool(found) and int(found[1]) == stored, f"step {stored} was stored; {found and found[0]}")  # type: ignore[index]
    return stored, int(found[1])  # type: ignore[index]


def seeds(c: Cluster) -> str:
    """seeds, three indexes"""
    documents = c.small("torch", "seeds", epochs=2, source="seeds")
    documents[-1]["spec"] |= {"completions": 3, "parallelism": 3}
    job = c.start(documents)
    c.k.complete(job)
    runs = [f"{c.uids[job]}-{index}" for index in range(3)]
    found = [json.loads(c.fetch(run, "run.json"))["seed"] for run in runs]
    expect(found == [0, 1, 2], f"seeds {found}")
    digests = {c.model(run) for run in runs}
    expect(len(digests) == 3, "two seeds ended with the same model")
    return f"three runs UID-0 to UID-2, seeds {found}, three different models"


def peaks(c: Cluster) -> str:
    """peaks against requests"""
    measured = c.sampler.peaks()
    expect(bool(measured), "no sample: the node's stats/summary could not be read (it takes the right to get nodes/proxy)")
    said = []
    for name, (memory, disk) in sorted(measured.items()):
        request, limit, room = limits(name)
        expect(memory <= limit, f"{name}: working set {memory >> 20} MiB, limit {limit >> 20} MiB")
        expect(memory <= request, f"{name}: working set {memory >> 20} MiB, request {request >> 20} MiB")
        expect(not room or disk <= room, f"{name}: {disk >> 20} MiB on disk, limit {room >> 20} MiB")
        if name.startswith("alexnet-"):
            record(
                name,
                "digits at 64 px in a pod",
                memory_bytes=memory,
                disk_bytes=disk,
                where="make e2e-cluster, GPU" if GPU else "make e2e-cluster, CPU",
            )
        said.append(f"{name} {memory >> 20} of {request >> 20}/{limit >> 20} MiB, disk {disk >> 20} of {room >> 20} MiB")
    return "; ".join(said)


ROWS: list[Row] = [
    dry_run, storage, both_engines, disruptions, outage, refusals, late_secret_and_suspension, same_run, seeds,
    monitoring, gitops, kept_spool, kueue, lost_driver, combined, acceptance,
    torch_set, tf_set, queued_set, trainjob, peaks,
]  # fmt: skip
