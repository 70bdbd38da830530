"""JobSets and TrainJobs, as far as they can be judged without a cluster.  Jobs: test_manifests.py."""

import copy
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from job.core.exits import Exit
from tests.cluster.kubectl import ROOT, kustomize, read
from tests.cluster.policy import find, option, violations, without
from tests.cluster.sets import RUNTIME, WORKERS, as_job, set_spec
from tests.cluster.test_manifests import NEWEST, OLDEST

JOBSETS = {engine: f"k8s/jobset/{engine}-jobset.yaml" for engine in ("torch", "tf")}
TRAINJOBS = {engine: f"k8s/trainjob/{engine}-trainjob.yaml" for engine in ("torch", "tf")}
SETS = {**dict.fromkeys(JOBSETS.values(), WORKERS), "k8s/trainjob/runtime.yaml": RUNTIME}
CONTROLLERS = ROOT.parent / "shared" / "cluster"
TRAIN = "spec.template.spec.containers.0"


def last(path):
    """The set itself, after its ServiceAccount."""
    return copy.deepcopy(read(path)[-1])


def workers(path):
    return as_job(last(path))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", SETS)
def test_the_job_that_a_controller_makes_is_valid(path, version):
    job = workers(path)
    train = find(job, TRAIN)
    train.setdefault("image", "given-by-the-trainjob:1")
    assert kubernetes_validate.validate(job, version, strict=True) == version


@pytest.mark.parametrize("path", SETS)
def test_policy(path):
    assert violations(workers(path), SETS[path], retries=0) == []


@pytest.mark.parametrize(("path", "place"), [(path, place) for path, policy in SETS.items() for place in policy])
def test_policy_notices_what_is_missing(path, place):
    assert place in violations(without(workers(path), place), SETS[path], retries=0)


@pytest.mark.parametrize("path", SETS)
@pytest.mark.parametrize("codes", [[Exit.TERMINATED], [Exit.WORKER_GONE], [Exit.WORKER_GONE, Exit.TERMINATED, 137]])
def test_policy_notices_a_wrong_rule(path, codes):
    job = workers(path)
    job["spec"]["podFailurePolicy"]["rules"][-1]["onExitCodes"]["values"] = codes
    assert violations(job, SETS[path], retries=0) == ["spec.podFailurePolicy.rules"]


@pytest.mark.parametrize("path", SETS)
def test_a_worker_that_fails_restarts_all(path):
    spec = set_spec(last(path))
    assert (spec["failurePolicy"]["maxRestarts"], spec["failurePolicy"]["restartStrategy"]) == (6, "Recreate")
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy", "DeadlineExceeded"])
    assert "successPolicy" not in spec, "all workers must succeed"
    assert spec["ttlSecondsAfterFinished"] >= 86400
    assert "suspend" not in spec, "applied again it would stop a set at work"


@pytest.mark.parametrize("path", JOBSETS.values())
def test_workers_find_each_other(path):
    """Worker 0 by the name that the controller writes into an annotation; `alexnet` derives the others from it."""
    document, job = last(path), workers(path)
    (replicated,) = document["spec"]["replicatedJobs"]
    args, count = find(job, f"{TRAIN}.args"), job["spec"]["completions"]
    assert document["spec"]["coordinator"] == {"replicatedJob": replicated["name"], "jobIndex": 0, "podIndex": 0}
    assert replicated.get("replicas", 1) == 1
    assert job["spec"]["parallelism"] == count == int(option(args, "workers"))
    assert count & (count - 1) == 0
    variable = re.fullmatch(r"\$\((\w+)\):\d+", option(args, "coordinator"))[1]
    (env,) = [each for each in find(job, f"{TRAIN}.env") if each["name"] == variable]
    assert env["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.annotations['jobset.sigs.k8s.io/coordinator']"}}
    name = document["metadata"]["name"]
    assert len(f"{name}-{replicated['name']}-0-{count - 1}-abcde") <= 63
    assert "network" not in document["spec"], "the defaults give names to pods that are not ready"


def command(args, **variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ALEXNET_", "JOB_"))}
    written = [re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], arg) for arg in args]
    words = [sys.executable, "-m", "job", *written, "--dry-run"]
    environment = {**kept, **variables, "JOB_COMPLETION_INDEX": "1", "ALEXNET_RUN_ID": "0ffd5f01"}
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


VARIABLES = {
    "COORDINATOR_POD": "alexnet-torch-set-worker-0-0.alexnet-torch-set",
    "PET_NNODES": "2",
    "PET_MASTER_ADDR": "alexnet-torch-node-0-0.alexnet-torch",
    "PET_MASTER_PORT": "29400",
}


@pytest.mark.parametrize("path", SETS)
def test_arguments_are_those_of_the_command(path):
    engine = "tf" if "tf-" in path else "torch"
    recipe = re.search(r"ALEXNET_RECIPE=(\S+)", (ROOT / f"Dockerfile.{engine}").read_text())[1]
    done = command(find(workers(path), f"{TRAIN}.args"), ALEXNET_RECIPE=recipe, **VARIABLES)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"epochs = {30 if engine == 'tf' else 20}\n" in done.stdout


def test_trainjobs_use_the_runtime():
    runtime = last("k8s/trainjob/runtime.yaml")
    given = {"PET_NNODES", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
    assert given == set(re.findall(r"\$\((\w+)\)", " ".join(find(as_job(runtime), f"{TRAIN}.args"))))
    assert runtime["spec"]["mlPolicy"]["torch"] == {}, "which gives these"
    (replicated,) = set_spec(runtime)["replicatedJobs"]
    assert replicated["name"] == find(as_job(runtime), f"{TRAIN}.name") == "node", "as the controller looks for it"
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    for engine, path in TRAINJOBS.items():
        job = last(path)
        assert job["spec"]["runtimeRef"] == {"kind": runtime["kind"], "name": runtime["metadata"]["name"]}
        assert job["spec"]["trainer"]["image"] == f"alexnet-{engine}:{version}"
        assert job["spec"]["trainer"]["numNodes"] == 2
        assert {each["name"] for each in job["spec"]["trainer"]["env"]} == {"ALEXNET_SEED"}


@pytest.mark.parametrize("paths", [JOBSETS, TRAINJOBS])
def test_siblings(paths):
    """They differ in names, recipe and length alone."""
    torch, tf = ((ROOT / path).read_text() for path in paths.values())
    torch = torch.replace("PyTorch", "TensorFlow").replace("torch", "tf").replace("20 epochs", "30 epochs")
    assert torch.replace("--recipe=default\n", "--recipe=default-30\n") == tf


@pytest.mark.parametrize("path", [*SETS, *TRAINJOBS.values()])
def test_starts_with_its_commands(path):
    head = (ROOT / path).read_text().partition("apiVersion")[0]
    assert f"kubectl apply -f {path}" in head
    assert f"kubectl delete -f {path}" in head


def test_the_jobset_trains_as_the_job_does():
    """But for what several workers need."""
    job, path = read("k8s/torch-job.yaml")[-1], JOBSETS["torch"]
    more = {"--workers=2", "--coordinator=$(COORDINATOR_POD):29500"}
    one, of_set = find(job, TRAIN), find(workers(path), TRAIN)
    assert [arg for arg in of_set["args"] if arg not in more] == one["args"]
    same = ("image", "resources", "volumeMounts", "securityContext", "envFrom", "ports")
    assert {name: of_set[name] for name in same} == {name: one[name] for name in same}


@pytest.mark.parametrize(("over", "kind"), [("k8s/jobset", "JobSet"), ("k8s/trainjob", "TrainJob")])
def test_the_queue_reaches_them(over, kind):
    found = [d for d in kustomize("kueue", over) if d["kind"] == kind]
    assert len(found) == 2
    for document in found:
        assert document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_one_rack_and_the_queue_together():
    for document in (d for d in kustomize("one-rack+kueue", "k8s/jobset") if d["kind"] == "JobSet"):
        assert document["metadata"]["annotations"] == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "topology.kubernetes.io/rack"}


def test_images_of_an_overlay_reach_the_workers(tmp_path):
    here = tmp_path.resolve()
    digest = f"sha256:{'0' * 64}"
    images = [{"name": f"alexnet-{engine}", "newName": f"r.example/alexnet-{engine}", "digest": digest} for engine in JOBSETS]
    parts = {"resources": [os.path.relpath(ROOT / folder, here) for folder in ("k8s", "k8s/jobset", "k8s/store")], "images": images}
    (here / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    found = [find(as_job(d), f"{TRAIN}.image") for d in kustomize(str(here)) if d["kind"] == "JobSet"]
    assert sorted(found) == [f"r.example/alexnet-{engine}@{digest}" for engine in ("tf", "torch")]


def test_the_network_policy_lets_workers_meet():
    """Their pods have the template's labels, and the one with the set's name from the controller."""
    policy = read("k8s/networkpolicy.yaml")[0]["spec"]
    (entering,) = [rule["from"] for rule in policy["ingress"] if "from" in rule]
    leaving = [rule["to"] for rule in policy["egress"] if rule["to"] == entering]
    assert leaving, "the same pods in both directions"
    assert not any("ports" in rule for rule in policy["ingress"] if "from" in rule), "NCCL and Gloo choose their ports"
    ((peer,),) = leaving
    assert [*peer] == ["podSelector"], "of this namespace"
    assert peer["podSelector"]["matchExpressions"] == [{"key": "jobset.sigs.k8s.io/jobset-name", "operator": "Exists"}]
    for path in SETS:
        assert peer["podSelector"]["matchLabels"].items() <= find(workers(path), "spec.template.metadata.labels").items()
        assert policy["podSelector"]["matchLabels"].items() <= find(workers(path), "spec.template.metadata.labels").items()


def schemas():
    """kind → OpenAPI schema, of the controllers' own releases; skips where these are not at hand."""
    found = {}
    for archive in sorted(CONTROLLERS.glob("*.tar.xz")):
        name = archive.name.partition("-")[0]
        if name not in ("jobset", "trainer"):
            continue
        with tarfile.open(archive) as files:
            text = files.extractfile(f"{name}.yaml").read()
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
            if document and document["kind"] == "CustomResourceDefinition":
                (version,) = document["spec"]["versions"]
                found[document["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    if not found:
        pytest.skip("needs ../shared/cluster, which has the controllers' releases")
    return found


def unknown(value, schema, where=""):
    """Fields that the schema does not know, which an API server would drop or refuse."""
    if isinstance(value, list):
        return [found for each in value for found in unknown(each, schema.get("items", {}), f"{where}[]")]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return []
    return [
        found
        for key, each in value.items()
        for found in (unknown(each, properties[key], f"{where}.{key}") if key in properties else [f"{where}.{key}"])
    ]


def test_custom_resources_are_valid():
    known = schemas()
    for path in (*SETS, *TRAINJOBS.values()):
        document = last(path)
        schema = known[document["kind"]]
        jsonschema.Draft7Validator(schema).validate(json.loads(json.dumps(document)))
        assert unknown({key: value for key, value in document.items() if key != "metadata"}, schema) == [], path
    wrong = last(JOBSETS["torch"])
    wrong["spec"]["failurePolicy"]["restartStrategi"] = "Recreate"
    assert unknown({"spec": wrong["spec"]}, known["JobSet"]) == [".spec.failurePolicy.restartStrategi"]


def test_everything_is_here():
    assert {path.name for path in Path(ROOT / "k8s/jobset").iterdir()} == {"kustomization.yaml", "torch-jobset.yaml", "tf-jobset.yaml"}
    assert {d["kind"] for d in kustomize("k8s/trainjob")} == {"ServiceAccount", "TrainingRuntime", "TrainJob"}
    assert {d["kind"] for d in kustomize("k8s/jobset")} == {"ServiceAccount", "JobSet"}
