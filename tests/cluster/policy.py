"""What every training Job must have: a table of paths and values, so that a test can also take each of them away."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from job.core.exits import Exit

FOR_GOOD = (Exit.USAGE, Exit.DATA, Exit.DIVERGED, Exit.CONFIGURATION)
"""a pod that ended so would end so again"""
POD = "spec.template.spec"
TRAIN = f"{POD}.containers.0"
UNITS = {"Mi": 2**20, "Gi": 2**30}


def size(text: str) -> int:
    """Bytes."""
    return int(text[:-2]) * UNITS[text[-2:]]


def option(args: list[str], name: str) -> str | None:
    """The last one counts, as for the command."""
    return next((a.partition("=")[2] for a in reversed(args) if a.startswith(f"--{name}=")), None)


def volumes(found: list[dict[str, Any]]) -> bool:
    """Each an emptyDir with a size limit, but for those that are to outlive the pod."""
    by_name = {v["name"]: v for v in found}
    limited = {name for name, v in by_name.items() if size(v.get("emptyDir", {}).get("sizeLimit", "0Mi")) > 0}
    claims = {name for name, v in by_name.items() if v.get("persistentVolumeClaim", {}).get("claimName")}
    return {"tmp", "shm"} <= limited and "spool" in by_name and limited | claims == set(by_name)


def mounts(found: list[dict[str, str]]) -> bool:
    places = {m["name"]: m["mountPath"] for m in found}
    return places.pop("results", "/results") == "/results" and places == {"spool": "/runs", "tmp": "/tmp", "shm": "/dev/shm"}


PLACE = {
    "ALEXNET_NODE": "spec.nodeName",
    "ALEXNET_POD": "metadata.name",
    "ALEXNET_NAMESPACE": "metadata.namespace",
    "ALEXNET_JOB_UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
    "ALEXNET_JOB": "metadata.labels['batch.kubernetes.io/job-name']",
}


def variables(env: list[dict[str, Any]], place: Mapping[str, str] = PLACE) -> bool:
    """The run's id, and for the record where the pod is."""
    by_name = {e["name"]: e for e in env}
    placed = all(by_name.get(name, {}).get("valueFrom") == {"fieldRef": {"fieldPath": path}} for name, path in place.items())
    return placed and run_id(by_name, place["ALEXNET_JOB_UID"])


def run_id(by_name: dict[str, dict[str, Any]], path: str) -> bool:
    """From the Job's uid, by way of the downward API; where each index is a run of its own with the index after it."""
    uid = {"fieldRef": {"fieldPath": path}}
    index = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}
    if "JOB_UID" not in by_name:
        return by_name.get("ALEXNET_RUN_ID", {}).get("valueFrom") == uid
    return (
        by_name["JOB_UID"].get("valueFrom") == uid
        and by_name.get("ALEXNET_SEED", {}).get("valueFrom") == index
        and by_name.get("ALEXNET_RUN_ID", {}).get("value") == "$(JOB_UID)-$(ALEXNET_SEED)"
    )


def failure_rules(*ignored: int, container: str = "train") -> Callable[[list[dict[str, Any]]], bool]:
    """Ends for good, Ignore on disruption and these codes, nothing else; each code in one rule, 0 in none."""
    disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}

    def good(rules: list[dict[str, Any]]) -> bool:
        codes: dict[str, list[int]] = {}
        for rule in rules:
            if "onExitCodes" in rule:
                exits = rule["onExitCodes"]
                if exits["operator"] != "In" or exits.get("containerName") != container:
                    return False
                codes.setdefault(rule["action"], []).extend(exits["values"])
        ends = sorted(codes.get("FailJob", []) + codes.get("FailIndex", []))
        return ends == sorted(FOR_GOOD) and codes.get("Ignore") == [*ignored] and disruption in rules and "Count" not in codes

    return good


def tolerates_gpu(found: list[dict[str, str]]) -> bool:
    return {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in found


def pinned(image: str) -> bool:
    return ":" in image and not image.endswith(":latest")


def credentials(found: list[dict[str, Any]]) -> bool:
    return found == [{"secretRef": {"name": "alexnet-s3"}}]


LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "version")}

POLICY: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "spec.activeDeadlineSeconds": lambda seconds: seconds % 3600 == 0 and seconds >= 12 * 3600,
    "spec.ttlSecondsAfterFinished": lambda seconds: seconds >= 86400,
    "spec.podReplacementPolicy": "Failed",
    "spec.podFailurePolicy.rules": failure_rules(Exit.TERMINATED),
    "metadata.labels": lambda labels: set(labels) >= LABELS,
    "spec.template.metadata.labels": lambda labels: set(labels) >= LABELS,
    f"{POD}.restartPolicy": "Never",
    f"{POD}.terminationGracePeriodSeconds": lambda seconds: 15 <= seconds <= 300,
    f"{POD}.serviceAccountName": lambda name: name.startswith("alexnet-"),
    f"{POD}.automountServiceAccountToken": False,
    f"{POD}.enableServiceLinks": False,
    f"{POD}.securityContext.runAsNonRoot": True,
    f"{POD}.securityContext.runAsUser": lambda uid: uid > 0,
    f"{POD}.securityContext.fsGroup": lambda gid: gid > 0,
    f"{POD}.securityContext.seccompProfile.type": "RuntimeDefault",
    f"{POD}.nodeSelector": lambda found: found.get("kubernetes.io/arch") == "amd64",
    f"{POD}.tolerations": tolerates_gpu,
    f"{POD}.volumes": volumes,
    f"{POD}.volumes.2.emptyDir.medium": "Memory",
    f"{TRAIN}.name": "train",
    f"{TRAIN}.image": pinned,
    f"{TRAIN}.imagePullPolicy": "IfNotPresent",
    f"{TRAIN}.env": variables,
    f"{TRAIN}.envFrom": credentials,
    f"{TRAIN}.resources.requests.cpu": bool,
    f"{TRAIN}.resources.requests.memory": lambda text: size(text) >= 2**30,
    f"{TRAIN}.resources.requests.ephemeral-storage": bool,
    f"{TRAIN}.resources.limits.cpu": bool,
    f"{TRAIN}.resources.limits.memory": lambda text: size(text) >= 2**30,
    f"{TRAIN}.resources.limits.ephemeral-storage": bool,
    f"{TRAIN}.resources.limits.nvidia.com/gpu": 1,
    f"{TRAIN}.resources.requests.nvidia.com/gpu": 1,
    f"{TRAIN}.terminationMessagePolicy": "FallbackToLogsOnError",
    f"{TRAIN}.securityContext.allowPrivilegeEscalation": False,
    f"{TRAIN}.securityContext.readOnlyRootFilesystem": True,
    f"{TRAIN}.securityContext.capabilities.drop": ["ALL"],
    f"{TRAIN}.volumeMounts": mounts,
}
"""path → the value, or a function that says whether the value will do"""


def _keys(path: str) -> list[str | int]:
    words = path.replace("nvidia.com/gpu", "nvidia~gpu").split(".")
    return [int(w) if w.isdigit() else w.replace("nvidia~gpu", "nvidia.com/gpu") for w in words]


def find(document: Any, path: str) -> Any:
    """None where there is nothing."""
    for key in _keys(path):
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def without(document: Any, path: str) -> Any:
    """A copy without what is at the path."""
    changed = copy.deepcopy(document)
    *parents, last = _keys(path)
    place = changed
    for key in parents:
        place = place[key]
    del place[last]
    return changed


def violations(job: dict[str, Any], policy: dict[str, Any] = POLICY, retries: int = 6) -> list[str]:
    """The paths at which the Job is not as it must be.  `retries`: of its own."""
    bad = []
    for path, wanted in policy.items():
        found = find(job, path)
        good = found is not None and (wanted(found) if callable(wanted) else found == wanted)
        if not good:
            bad.append(path)
    return bad + between(job, retries)


def between(job: dict[str, Any], retries: int) -> list[str]:
    """What must fit together."""
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    train, bad = pod["containers"][0], []
    args, resources = train.get("args", []), train.get("resources", {})
    if "backoffLimitPerIndex" in spec:
        if spec["backoffLimitPerIndex"] != retries or "backoffLimit" in spec or spec.get("completionMode") != "Indexed":
            bad.append("backoffLimitPerIndex")
    elif spec.get("backoffLimit") != retries:
        bad.append("backoffLimit")
    if option(args, "grace") != str(pod.get("terminationGracePeriodSeconds")):
        bad.append("grace")
    if option(args, "spool") != "/runs" or not (option(args, "output") or "").startswith("s3://"):
        bad.append("output")
    if not float(option(args, "checkpoint-minutes") or 0) > 0:
        bad.append("checkpoint-minutes")
    if option(args, "log-format") != "json":
        bad.append("log-format")
    if {"name": "metrics", "containerPort": int(option(args, "metrics-port") or 0)} not in train.get("ports", []):
        bad.append("metrics-port")
    if option(args, "device") != "cuda":
        bad.append("device")
    sizes = {v["name"]: size(v.get("emptyDir", {}).get("sizeLimit", "0Mi")) for v in pod.get("volumes", [])}
    limits = resources.get("limits", {})
    if size(limits.get("ephemeral-storage", "0Mi")) < sizes.get("spool", 0) + sizes.get("tmp", 0):
        bad.append("disk limit below the volumes")
    if 0 < sizes.get("spool", 0) < 2 * size(f"{option(args, 'spool-limit') or 0}Mi"):
        bad.append("spool limit above half of its volume")
    for entry in train.get("env", []):
        if "value" in entry and "valueFrom" in entry:
            bad.append("value beside valueFrom")
    return bad
