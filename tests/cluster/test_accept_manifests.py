"""k8s/accept.yaml and k8s/accept-node.yaml, as far as they can be judged without a cluster."""

import copy
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from job.cli.accept import accept
from job.core.exits import Exit
from tests.cluster.acceptance_row import small
from tests.cluster.kubectl import read
from tests.cluster.policy import PLACE, POLICY, find, pinned, size, tolerates_gpu

ROOT = Path(__file__).parents[2]
POD = "spec.template.spec"
ACCEPT = f"{POD}.containers.0"
OTHER = ("podFailurePolicy", "volume", "containers.0.name", "containers.0.env", "serviceAccountName", "nvidia.com/gpu")
"""what a training has, and an acceptance otherwise"""
INDEXED, ON_NODE = (read(f"k8s/{name}.yaml")[-1] for name in ("accept", "accept-node"))
BOTH = pytest.mark.parametrize("job", [INDEXED, ON_NODE], ids=["accept", "accept-node"])


@BOTH
def test_what_holds_for_trainings_holds_for_acceptances(job):
    shared = {path: wanted for path, wanted in POLICY.items() if not any(word in path for word in OTHER)}
    assert len(shared) > 25
    held = {path: wanted(find(job, path)) if callable(wanted) else find(job, path) == wanted for path, wanted in shared.items()}
    assert [path for path in shared if not held[path]] == []
    assert pinned(find(job, f"{ACCEPT}.image"))
    assert tolerates_gpu(find(job, f"{POD}.tolerations"))


def rules(job):
    """(action, "In" or "NotIn" and exit codes, or "disruption"), in the order in which they are tried."""
    found = []
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        exits = rule.get("onExitCodes")
        assert exits is None or exits["containerName"] == find(job, f"{ACCEPT}.name")
        found.append((rule["action"], (exits["operator"], *exits["values"]) if exits else "disruption"))
    return found


INNOCENT = ("In", Exit.UNREACHABLE, Exit.NOT_STORED)
BROKE = ("NotIn", Exit.USAGE, Exit.UNREACHABLE, Exit.DEVICE, Exit.NOT_STORED)


def test_what_failed_on_one_gpu_is_not_tried_on_another():
    """Only a disruption, a store that was away, and a pod whose container never ran, which no rule of exit codes matches."""
    last = [("Ignore", "disruption"), ("Ignore", INNOCENT)]
    assert rules(INDEXED) == [("FailIndex", ("In", Exit.DEVICE)), ("FailJob", ("In", Exit.USAGE)), *last, ("FailIndex", BROKE)]
    assert (INDEXED["spec"]["backoffLimitPerIndex"], INDEXED["spec"]["completionMode"]) == (6, "Indexed")
    assert rules(ON_NODE) == [("FailJob", ("In", Exit.USAGE, Exit.DEVICE)), *last, ("FailJob", BROKE)]
    assert ON_NODE["spec"]["backoffLimit"] == 6


def test_all_indexes_run_at_once_and_the_report_knows_how_many_there_are():
    spec = INDEXED["spec"]
    env = {entry["name"]: entry for entry in find(INDEXED, f"{ACCEPT}.env")}
    assert spec["completions"] == spec["parallelism"] == int(env["ALEXNET_COMPLETIONS"]["value"])
    assert env["ALEXNET_RUN_ID"]["value"] == "$(JOB_UID)-$(JOB_INDEX)"
    assert [*env].index("JOB_UID") < [*env].index("ALEXNET_RUN_ID") > [*env].index("JOB_INDEX")
    (constraint,) = find(INDEXED, f"{POD}.topologySpreadConstraints")
    assert constraint["labelSelector"]["matchLabels"].items() <= find(INDEXED, "spec.template.metadata.labels").items()
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", "else an index would wait where nodes have different numbers of GPUs"


@BOTH
def test_the_verdict_says_where(job):
    env = {entry["name"]: entry.get("valueFrom") for entry in find(job, f"{ACCEPT}.env")}
    assert {name: env.get(name) for name in PLACE} == {name: {"fieldRef": {"fieldPath": path}} for name, path in PLACE.items()}


def test_one_pod_on_the_node_that_is_named():
    (term,) = find(ON_NODE, f"{POD}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms")
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["NODE-NAME"]}]}
    command = re.search(r"sed (\".*?\") k8s/accept-node.yaml", (ROOT / "k8s/accept-node.yaml").read_text())
    (script,) = shlex.split(command[1].replace("$node", "gpu-7.example"))
    done = subprocess.run(["sed", script, ROOT / "k8s/accept-node.yaml"], capture_output=True, text=True, check=True)
    (named,) = yaml.safe_load_all(done.stdout)
    assert "NODE-NAME" not in str(named)
    assert "gpu-7.example" in str(named)
    assert "name" not in named["metadata"], "kubectl create makes one up, so that a node can be tested again"


def test_the_manifests_are_siblings():
    """They differ in how pods come to GPUs, in the number of these and what goes with it, and in names."""

    def common(job):
        pod = copy.deepcopy(job["spec"]["template"]["spec"])
        container = pod["containers"][0]
        for key in ("affinity", "topologySpreadConstraints", "serviceAccountName"):
            pod.pop(key, None)
        container["env"] = [entry for entry in container["env"] if entry["name"] in PLACE]
        return pod, container.pop("resources"), pod["volumes"].pop(1)

    (indexed, one, _), (on_node, all_of_them, _) = common(INDEXED), common(ON_NODE)
    assert indexed == on_node
    gpus = all_of_them["limits"]["nvidia.com/gpu"]
    assert gpus > one["limits"]["nvidia.com/gpu"] == 1
    for kind in ("requests", "limits"):
        assert int(all_of_them[kind]["cpu"]) == gpus * int(one[kind]["cpu"])
        assert size(all_of_them[kind]["memory"]) == gpus * size(one[kind]["memory"])


@pytest.mark.parametrize("job", [INDEXED, ON_NODE, small(gpus=True)[-1]], ids=["accept", "accept-node", "row"])
def test_arguments_are_those_of_the_command(job):
    name, *words = find(job, f"{ACCEPT}.args")
    assert name == "accept"
    with accept.make_context("accept", words) as context:
        assert context.params["output"].startswith("s3://")
    with pytest.raises(click.UsageError):
        accept.make_context("accept", [*words, "--no-such-flag"])


@pytest.mark.parametrize("name", ["accept", "accept-node"])
def test_starts_with_its_commands(name):
    head = (ROOT / f"k8s/{name}.yaml").read_text().partition("apiVersion")[0]
    for words in (f"k8s/{name}.yaml", "kubectl logs", "alexnet accept report s3://alexnet/accept", "kubectl delete", "-w\n", "alexnet-s3"):
        assert words in head
