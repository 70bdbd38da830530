"""JobSets and TrainJobs, which hold a Job's template for all workers: how to reach it, and what it must have beside a Job's policy."""

import functools
from typing import Any

from job.core.exits import Exit
from tests.cluster.policy import LABELS, POLICY, TRAIN, failure_rules, variables

Document = dict[str, Any]
KINDS = ("JobSet", "TrainingRuntime")
PLACE = {
    "ALEXNET_NODE": "spec.nodeName",
    "ALEXNET_POD": "metadata.name",
    "ALEXNET_NAMESPACE": "metadata.namespace",
    "ALEXNET_JOB_UID": "metadata.labels['jobset.sigs.k8s.io/jobset-uid']",
    "ALEXNET_JOB": "metadata.labels['jobset.sigs.k8s.io/jobset-name']",
}
"""of the set: its Jobs are made anew at a restart"""


def set_spec(document: Document) -> Document:
    """Of a JobSet, or of the one that a TrainingRuntime makes."""
    found: Document = document["spec"] if document["kind"] == "JobSet" else document["spec"]["template"]["spec"]
    return found


def as_job(document: Document) -> Document:
    """The Job that the controller makes, as far as the template says."""
    (workers,) = set_spec(document)["replicatedJobs"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": document["metadata"], "spec": workers["template"]["spec"]}


_OF_THE_SET = {"spec.ttlSecondsAfterFinished"}
WORKERS: Document = {path: wanted for path, wanted in POLICY.items() if path not in _OF_THE_SET} | {
    "spec.completionMode": "Indexed",
    "spec.podFailurePolicy.rules": failure_rules(Exit.WORKER_GONE, Exit.TERMINATED),
    f"{TRAIN}.env": functools.partial(variables, place=PLACE),
}
"""as POLICY"""
RUNTIME: Document = {path: wanted for path, wanted in WORKERS.items() if path != f"{TRAIN}.image"} | {
    "metadata.labels": lambda labels: set(labels) >= LABELS - {"app.kubernetes.io/instance"},
    "spec.template.metadata.labels": lambda labels: set(labels) >= LABELS - {"app.kubernetes.io/instance"},
    "spec.podFailurePolicy.rules": failure_rules(Exit.WORKER_GONE, Exit.TERMINATED, container="node"),
    f"{TRAIN}.name": "node",
    "spec.template.spec.serviceAccountName": "alexnet",
}
"""the image and the instance's name are those of a TrainJob"""
