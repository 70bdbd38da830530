"""The Kubernetes manifests and the Dockerfiles, as far as they can be judged without an engine or a cluster."""

import copy
import difflib
import functools
import json
import os
import re
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from job.core.exits import Exit
from job.training.exporter import GAUGES
from tests.cluster.kubectl import COMPONENTS, VARIANTS, kustomize, read
from tests.cluster.policy import FOR_GOOD, POLICY, find, option, size, violations, without

ROOT = Path(__file__).parents[2]
BIN = Path(sysconfig.get_path("scripts"))
FILES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "k8s").rglob("*.yaml") if p.name != "kustomization.yaml")
OLDEST, NEWEST = "1.31", ".".join(kubernetes_validate.latest_version().split(".")[:2])


@functools.cache
def _read(source):
    return read(source) if source.endswith(".yaml") else kustomize(source)


def documents(source):
    return copy.deepcopy(_read(source))


def jobs(source):
    """The training Jobs by name."""
    found = [d for d in documents(source) if d["kind"] == "Job" and d["metadata"]["labels"]["app.kubernetes.io/component"] == "training"]
    return {job["metadata"]["name"]: job for job in found}


TRAININGS = [(source, name) for source in [*FILES, *VARIANTS] for name in jobs(source)]


def training(source, name):
    return jobs(source)[name]


def arguments(source, name):
    return find(training(source, name), "spec.template.spec.containers.0.args")


SINCE = {"ResourceClaimTemplate": "1.34"}
"""kinds that are younger than the oldest Kubernetes"""
FOREIGN = {"PodMonitor", "JobSet", "TrainJob", "TrainingRuntime"}
"""kinds that Kubernetes itself has not; for those of several workers see test_sets.py"""


def test_everything_is_here():
    sets = {"torch-jobset", "tf-jobset", "torch-trainjob", "tf-trainjob", "runtime"}
    assert {Path(f).stem for f in FILES} == {"torch-job", "tf-job", "storage", "networkpolicy", "push", "accept", "accept-node"} | sets
    page = (ROOT / "docs/cluster.md").read_text()
    for component in COMPONENTS:
        assert f"`{component}`" in page, f"docs/cluster.md does not name the component {component}"
    assert len(TRAININGS) == 2 + 2 * len(VARIANTS)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("source", [*FILES, *VARIANTS, "k8s/store", "k8s/dataset"])
def test_schema(source, version):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for document in documents(source):
            if document["kind"] not in FOREIGN and SINCE.get(document["kind"], OLDEST) <= version:
                assert kubernetes_validate.validate(document, version, strict=True) == version


def test_schema_check_can_fail():
    document = training(*TRAININGS[0])
    document["spec"]["podFailurPolicy"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, OLDEST, strict=True)


DEPARTURES = {
    "openshift": {"spec.template.spec.securityContext.runAsUser", "spec.template.spec.securityContext.fsGroup"},
    "results-pvc": {"spec.template.spec.containers.0.envFrom", "output"},
    "fixed-run-id": {"spec.template.spec.containers.0.env"},
    "several-gpus": {f"spec.template.spec.containers.0.resources.{kind}.nvidia.com/gpu" for kind in ("requests", "limits")},
    "dra": {f"spec.template.spec.containers.0.resources.{kind}.nvidia.com/gpu" for kind in ("requests", "limits")},
}
"""what a component is for is what it departs from; nothing else"""


@pytest.mark.parametrize(("source", "name"), TRAININGS)
def test_policy(source, name):
    expected = set().union(*(DEPARTURES.get(component, set()) for component in source.split("+")))
    assert set(violations(training(source, name))) == expected


@pytest.mark.parametrize("path", POLICY)
@pytest.mark.parametrize(
    ("source", "name"), [("k8s/torch-job.yaml", "alexnet-torch"), ("k8s/tf-job.yaml", "alexnet-tf"), ("seeds", "alexnet-tf")]
)
def test_policy_notices_what_is_missing(source, name, path):
    assert path in violations(without(training(source, name), path))


CHANGES = {
    "OnFailure beside podFailurePolicy": ("spec.template.spec.restartPolicy", "OnFailure"),
    "exit value 0": ("spec.podFailurePolicy.rules.0.onExitCodes.values", [0, *FOR_GOOD]),
    "one code less": ("spec.podFailurePolicy.rules.0.onExitCodes.values", list(FOR_GOOD[1:])),
    "77 for good": ("spec.podFailurePolicy.rules.0.onExitCodes.values", [*FOR_GOOD, Exit.SUPERSEDED]),
    "143 counted": ("spec.podFailurePolicy.rules.2.action", "Count"),
    "143 and 137 ignored": ("spec.podFailurePolicy.rules.2.onExitCodes.values", [137, 143]),
    "all but": ("spec.podFailurePolicy.rules.0.onExitCodes.operator", "NotIn"),
    "disruption counted": ("spec.podFailurePolicy.rules.1.action", "Count"),
    "no retries": ("spec.backoffLimit", 0),
    "grace of another length": ("spec.template.spec.terminationGracePeriodSeconds", 60),
    "latest": ("spec.template.spec.containers.0.image", "alexnet-torch:latest"),
    "no tag": ("spec.template.spec.containers.0.image", "alexnet-torch"),
    "root": ("spec.template.spec.securityContext.runAsUser", 0),
    "pod without its node": ("spec.template.spec.containers.0.env.1.valueFrom.fieldRef.fieldPath", "status.hostIP"),
    "run id of the pod": ("spec.template.spec.containers.0.env.0.valueFrom.fieldRef.fieldPath", "metadata.uid"),
    "value beside valueFrom": ("spec.template.spec.containers.0.env.0.value", "x"),
    "spool without limit": ("spec.template.spec.volumes.0.emptyDir", {}),
    "spool larger than the disk limit": ("spec.template.spec.volumes.0.emptyDir.sizeLimit", "40Gi"),
    "no checkpoints by time": (
        "spec.template.spec.containers.0.args",
        ["train", "--output=s3://b/p", "--device=cuda", "--grace=120", "--spool=/runs", "--spool-limit=2048"],
    ),
    "shm on disk": ("spec.template.spec.volumes.2.emptyDir.medium", ""),
    "own settings from a ConfigMap": ("spec.template.spec.containers.0.envFrom", [{"configMapRef": {"name": "alexnet"}}]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_policy_notices_what_is_wrong(change):
    path, value = CHANGES[change]
    job = training("k8s/torch-job.yaml", "alexnet-torch")
    parent, _, last = path.rpartition(".")
    find(job, parent)[last] = value
    assert violations(job)


@pytest.mark.parametrize("source", ["k8s/torch-job.yaml", "k8s/tf-job.yaml"])
def test_own_service_account_without_token(source):
    account = next(d for d in documents(source) if d["kind"] == "ServiceAccount")
    job = next(iter(jobs(source).values()))
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["name"] == find(job, "spec.template.spec.serviceAccountName")


def test_the_jobs_are_siblings():
    """They differ in names, recipe and length alone."""
    torch, tf = ((ROOT / f"k8s/{name}-job.yaml").read_text() for name in ("torch", "tf"))
    torch = torch.replace("torch", "tf").replace("PyTorch", "TensorFlow").replace("Pytf", "TensorFlow").replace("20 epochs", "30 epochs")
    assert torch.replace("--recipe=default\n", "--recipe=default-30\n").replace("PyTorch", "TensorFlow") == tf


@pytest.mark.parametrize("source", ["k8s/torch-job.yaml", "k8s/tf-job.yaml", "k8s/networkpolicy.yaml"])
def test_starts_with_its_commands(source):
    head = (ROOT / source).read_text().partition("apiVersion")[0]
    assert f"kubectl apply -f {source}" in head
    assert f"kubectl delete -f {source}" in head
    if "job" in source:
        assert "kubectl logs" in head
        assert "-w\n" in head
        assert "create secret" in head


def dry_run(image, args, variables=()):
    recipe = re.search(r"ALEXNET_RECIPE=(\S+)", (ROOT / f"Dockerfile.{image}").read_text())[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ALEXNET_")}
    command = [sys.executable, "-m", "job", *args, "--dry-run"]
    settings = {**kept, "ALEXNET_RECIPE": recipe, **dict.fromkeys(variables, "1")}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=settings)


@functools.cache
def epochs(image, args, variables=()):
    done = dry_run(image, args, variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return int(re.search(r"^epochs = (\d+)", done.stdout, re.M)[1])


@pytest.mark.parametrize(("source", "name"), TRAININGS)
def test_arguments_are_those_of_the_command(source, name):
    image = name.removeprefix("alexnet-")
    expected = 20 if "pretrained" in source or (image == "torch" and "30-epochs" not in source) else 30
    variables = (e["name"] for e in find(training(source, name), "spec.template.spec.containers.0.env"))
    assert epochs(image, tuple(arguments(source, name)), tuple(variables)) == expected


def test_a_wrong_argument_is_refused():
    assert dry_run("torch", [*arguments("k8s/torch-job.yaml", "alexnet-torch"), "--epoch=3x"]).returncode == Exit.USAGE


def pair(source):
    found = jobs(source)
    return found["alexnet-torch"], found["alexnet-tf"]


def test_of_equal_length():
    assert epochs("torch", tuple(arguments("30-epochs", "alexnet-torch"))) == epochs("tf", tuple(arguments("30-epochs", "alexnet-tf")))


@pytest.mark.parametrize("source", ["pretrained", "spot+kueue+pretrained"])
def test_pretrained(source):
    for job in pair(source):
        args = find(job, "spec.template.spec.containers.0.args")
        assert option(args, "recipe") == "pretrained"
        assert option(args, "init-from").startswith("s3://")


@pytest.mark.parametrize("source", ["kueue", "kueue+spot+30-epochs", "spot+kueue+pretrained"])
def test_kueue_suspends_and_the_manifest_does_not(source):
    for job in pair(source):
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
        assert "suspend" not in job["spec"], "applied again it would stop a Job at work"


@pytest.mark.parametrize("source", ["spot", "kueue+spot+30-epochs", "spot+kueue+pretrained", "seeds+spot+spool-pvc"])
def test_spot(source):
    for job in pair(source):
        pod = job["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] <= 15
        assert option(pod["containers"][0]["args"], "checkpoint-minutes") == "1"
        assert pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]


@pytest.mark.parametrize("source", ["several-gpus", "several-gpus+kueue+spot"])
def test_several_gpus(source):
    """As many processes as GPUs; each has the CPU that one has alone, and the memory of so many processes."""
    for job, alone in zip(pair(source), pair("k8s"), strict=True):
        train, one = (find(each, "spec.template.spec.containers.0") for each in (job, alone))
        gpus = int(option(train["args"], "gpus"))
        for kind in ("requests", "limits"):
            assert train["resources"][kind]["nvidia.com/gpu"] == gpus
            assert int(train["resources"][kind]["cpu"]) == gpus * int(one["resources"][kind]["cpu"])
        shm = next(v["emptyDir"] for v in find(job, "spec.template.spec.volumes") if v["name"] == "shm")
        assert size(shm["sizeLimit"]) >= gpus * size("256Mi")
        assert size(train["resources"]["requests"]["memory"]) >= gpus * measured_peak(train["image"])
        assert size(train["resources"]["limits"]["memory"]) >= gpus * measured_peak(train["image"]) + size(shm["sizeLimit"])


def measured_peak(image):
    """Bytes of host memory of one training, the greatest of tests/support/peaks.json."""
    peaks = json.loads((ROOT / "tests/support/peaks.json").read_text())
    return max(peak["memory_bytes"] for peak in peaks if peak["image"] == image.partition(":")[0])


@pytest.mark.parametrize("source", ["seeds", "seeds+spot+spool-pvc"])
def test_seeds(source):
    for job in pair(source):
        assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["backoffLimitPerIndex"]) == ("Indexed", 5, 6)


@pytest.mark.parametrize("source", ["spool-pvc", "seeds+spot+spool-pvc"])
def test_the_spool_outlives_the_pod(source):
    """A volume of its own for each Job, and room in it for what may wait, twice."""
    claims = {d["metadata"]["name"]: d["spec"] for d in documents(source) if d["kind"] == "PersistentVolumeClaim"}
    for job in pair(source):
        train = find(job, "spec.template.spec.containers.0")
        (mount,) = [m["name"] for m in train["volumeMounts"] if m["mountPath"] == option(train["args"], "spool")]
        (volume,) = [v for v in find(job, "spec.template.spec.volumes") if v["name"] == mount]
        claim = claims.pop(volume["persistentVolumeClaim"]["claimName"])
        assert size(claim["resources"]["requests"]["storage"]) >= 2 * size(f"{option(train['args'], 'spool-limit')}Mi")
    assert not claims


def test_openshift_names_no_user():
    for source in ("openshift", "openshift+pull-secret+runtime-class+spool-pvc+storage-class"):
        for job in pair(source):
            assert find(job, "spec.template.spec.securityContext") == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_runtime_class_pull_secret_and_storage_class():
    source = "openshift+pull-secret+runtime-class+spool-pvc+storage-class"
    for job in pair(source):
        pod = job["spec"]["template"]["spec"]
        assert (pod["runtimeClassName"], pod["imagePullSecrets"]) == ("nvidia", [{"name": "registry"}])
    claims = [d for d in documents(source) if d["kind"] == "PersistentVolumeClaim"]
    assert [claim["spec"]["storageClassName"] for claim in claims] == ["standard", "standard"]


def test_what_is_for_the_jobs_reaches_the_store_and_the_dataset(tmp_path):
    """Images, pull secret, user and StorageClass, in an overlay that lists them beside the Jobs."""
    here = tmp_path.resolve()
    parts = {
        "resources": [os.path.relpath(ROOT / folder, here) for folder in ("k8s", "k8s/store", "k8s/dataset")],
        "components": [os.path.relpath(ROOT / "k8s-variants" / name, here) for name in ("pull-secret", "openshift", "storage-class")],
        "images": [{"name": name, "newName": f"r.example/{name}"} for name in ("alexnet-torch", "alexnet-tf", "chrislusf/seaweedfs")],
    }
    (here / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    found = kustomize(str(here))
    pods = [d["spec"]["template"]["spec"] for d in found if d["kind"] in ("Job", "Deployment")]
    assert len(pods) == 4
    for pod in pods:
        assert pod["imagePullSecrets"]
        assert pod["containers"][0]["image"].startswith("r.example/")
        assert "runAsUser" not in pod["securityContext"]
    assert [d["spec"]["storageClassName"] for d in found if d["kind"] == "PersistentVolumeClaim"] == ["standard"]


@pytest.mark.parametrize("source", ["results-pvc", "results-pvc+data-from-bucket+fixed-run-id"])
def test_results_on_a_shared_file_system(source):
    for job in pair(source):
        pod = job["spec"]["template"]["spec"]
        (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == option(pod["containers"][0]["args"], "output")]
        (volume,) = [v for v in pod["volumes"] if v["name"] == mount["name"]]
        assert volume["persistentVolumeClaim"] == {"claimName": "alexnet-results"}


def test_the_dataset_is_read_where_it_is_pushed_to():
    push = pods("k8s/dataset")["alexnet-dataset"]["containers"][0]
    assert "nvidia.com/gpu" not in push["resources"]["limits"], "that is the point of it"
    for job in pair("data-from-bucket"):
        assert option(find(job, "spec.template.spec.containers.0.args"), "data") == push["args"][-1]


@pytest.mark.parametrize("source", ["fixed-run-id", "results-pvc+data-from-bucket+fixed-run-id"])
def test_a_run_that_is_named_after_its_job(source):
    for job in pair(source):
        first = find(job, "spec.template.spec.containers.0.env.0")
        path = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
        assert first["name"] == "ALEXNET_RUN_ID"
        assert first["valueFrom"]["fieldRef"].items() <= path["fieldRef"].items()


@pytest.mark.parametrize("source", ["dra", "dra+kueue+30-epochs+data-from-bucket+pod-monitor"])
def test_a_gpu_by_dynamic_allocation(source):
    (template,) = [d for d in documents(source) if d["kind"] == "ResourceClaimTemplate"]
    for job in pair(source):
        pod = job["spec"]["template"]["spec"]
        (claim,) = pod["resourceClaims"]
        assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
        assert pod["containers"][0]["resources"]["claims"] == [{"name": claim["name"]}]


def test_prometheus_finds_the_trainings_and_nothing_else():
    (monitor,) = [d for d in documents("pod-monitor") if d["kind"] == "PodMonitor"]
    chosen = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for job in pair("pod-monitor"):
        train = find(job, "spec.template.spec.containers.0")
        assert chosen <= job["spec"]["template"]["metadata"]["labels"].items()
        (port,) = [p["containerPort"] for p in train["ports"] if p["name"] == endpoint["port"]]
        assert option(train["args"], "metrics-port") == str(port)
    for other in (*documents("k8s/store"), *documents("k8s/dataset")):
        labels = find(other, "spec.template.metadata.labels") or {}
        assert not chosen <= labels.items()


def test_the_dashboard_shows_what_is_exported():
    dashboard = json.loads((ROOT / "k8s-variants/pod-monitor/dashboard.json").read_text())
    used = {name for panel in dashboard["panels"] for target in panel["targets"] for name in re.findall(r"alexnet_(\w+)", target["expr"])}
    assert used <= set(GAUGES)
    assert used >= set(GAUGES) - {"epoch", "epochs"}, "a metric that nobody sees"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_example_sets_what_it_says():
    for job in pair("k8s-variants/example"):
        pod = job["spec"]["template"]["spec"]
        train = pod["containers"][0]
        assert re.fullmatch(r"registry\.example/you/alexnet-\w+@sha256:[0-9a-f]{64}", train["image"])
        assert {"name": "ALEXNET_IMAGE", "value": train["image"]} in train["env"], "for claim.json"
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-vision"
        assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64", "nvidia.com/gpu.product": "NVIDIA-L4"}
        assert (option(train["args"], "output"), option(train["args"], "seed")) == ("s3://team-vision/alexnet", "1")


def pods(source):
    return {d["metadata"]["name"]: d["spec"]["template"]["spec"] for d in documents(source) if d["kind"] in ("Job", "Deployment")}


def test_the_store_is_restricted():
    pod = pods("k8s/store")["alexnet-s3"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert re.search(r":[\w.]*\d@sha256:[0-9a-f]{64}$", container["image"])
    assert container["resources"]["limits"]["memory"]


def test_the_store_keeps_its_data():
    kinds = {d["kind"]: d for d in documents("k8s/store")}
    pod = pods("k8s/store")["alexnet-s3"]
    container = pod["containers"][0]
    assert {v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]} >= {
        kinds["PersistentVolumeClaim"]["metadata"]["name"]
    }
    assert all(probe in container for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    assert kinds["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert kinds["Service"]["spec"]["selector"].items() <= kinds["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_network_policy_lets_dns_and_the_store_through():
    policy = documents("k8s/networkpolicy.yaml")[0]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (metrics,) = training("k8s/torch-job.yaml", "alexnet-torch")["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert policy["ingress"][0] == {"ports": [{"port": metrics["containerPort"], "protocol": "TCP"}]}
    dns, _workers, store = policy["egress"]
    assert {(p["port"], p["protocol"]) for p in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    by_name = {d["kind"]: d for d in documents("k8s/store") if d["metadata"]["name"] == "alexnet-s3"}
    labels = by_name["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert store["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert store["ports"] == [{"port": by_name["Service"]["spec"]["ports"][0]["port"], "protocol": "TCP"}]
    for source, name in TRAININGS:
        assert policy["podSelector"]["matchLabels"].items() <= training(source, name)["spec"]["template"]["metadata"]["labels"].items()
    assert not policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_images_of_the_manifests_are_those_of_the_build():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    for source, name in TRAININGS:
        job = training(source, name)
        if source != "k8s-variants/example":
            assert find(job, "spec.template.spec.containers.0.image") == f"{name}:{version}"
        assert job["metadata"]["labels"]["app.kubernetes.io/version"] == version


@pytest.mark.parametrize("name", ["alexnet-torch", "alexnet-tf"])
def test_limits_leave_room_for_the_measured_peaks(name):
    """tests/support/peaks.json: what the end-to-end tests (tests/e2e/test_images.py, tests/cluster) measured, and where."""
    job = training(f"k8s/{name.removeprefix('alexnet-')}-job.yaml", name)
    resources = find(job, "spec.template.spec.containers.0.resources")
    shm = size(find(job, "spec.template.spec.volumes.2.emptyDir.sizeLimit"))
    peaks = [p for p in json.loads((ROOT / "tests/support/peaks.json").read_text()) if p["image"] == name]
    assert peaks
    assert max(p["memory_bytes"] for p in peaks) <= size(resources["requests"]["memory"])
    assert max(p["memory_bytes"] for p in peaks) + shm <= size(resources["limits"]["memory"])
    assert max(p.get("disk_bytes", 0) for p in peaks) <= size(resources["requests"]["ephemeral-storage"])


@pytest.mark.parametrize("image", ["torch", "tf"])
def test_hadolint(image):
    done = subprocess.run([BIN / "hadolint", ROOT / f"Dockerfile.{image}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck():
    done = subprocess.run([BIN / "shellcheck", *(ROOT / "docker").iterdir()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_dockerfiles_are_siblings():
    """Line for line: all lines but names, bases and the environment of the frameworks are the same."""
    torch, tf = ((ROOT / f"Dockerfile.{image}").read_text().splitlines() for image in ("torch", "tf"))
    assert len(torch) == len(tf)
    for ours, theirs in zip(torch, tf, strict=True):
        if ours != theirs and not ours.startswith(("#", "ARG BASE_IMAGE=", "ENV ALEXNET_ENGINE=")):
            assert difflib.SequenceMatcher(None, ours, theirs).ratio() > 0.8, (ours, theirs)


@pytest.mark.parametrize("image", ["torch", "tf"])
def test_dockerfile_properties(image):
    text = (ROOT / f"Dockerfile.{image}").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert "# syntax=" not in text
    assert re.search(r"^ARG BASE_IMAGE=nvidia/cuda:\S+-base-ubuntu24\.04@sha256:[0-9a-f]{64}$", text, re.M)
    for wanted in ("USER 65532", 'ENTRYPOINT ["alexnet"]', "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"):
        assert wanted in final
    for variable in (
        "HOME",
        "XDG_CACHE_HOME",
        "MPLCONFIGDIR",
        "KERAS_HOME",
        "CUDA_CACHE_PATH",
        "TRITON_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
    ):
        assert re.search(rf"\b{variable}=/tmp", final)
    assert "LD_LIBRARY_PATH=/usr/local/nvidia/lib64" in final, "where GKE mounts the driver"
    assert re.search(r"\bPATH=\S+:/usr/local/nvidia/bin\b", final)
    assert "--require-hashes" in text
    assert text.index("requirements/") < text.index("COPY job")


@pytest.mark.parametrize("image", ["build", "torch", "tf"])
def test_requirements_are_locked(image):
    """Every requirement has hashes, and none names an index."""
    text = (ROOT / f"requirements/{image}.txt").read_text()
    entries = re.split(r"\n(?=[a-z])", re.sub(r"^\s*#.*\n", "", text, flags=re.M).strip())
    assert entries
    assert all("--hash=sha256:" in entry and "==" in entry for entry in entries)
    assert not re.search(r"https?://|--index|--find-links", text)


def test_cuda_of_the_base_is_that_of_the_wheels():
    for image, package in (("torch", "nvidia-cuda-runtime"), ("tf", "nvidia-cuda-runtime-cu12")):
        base = re.search(r"nvidia/cuda:(\d+\.\d+)", (ROOT / f"Dockerfile.{image}").read_text())[1]
        assert re.search(rf"^{package}==({base})\.", (ROOT / f"requirements/{image}.txt").read_text(), re.M), image


def test_mutations_leave_the_original_alone():
    job = training("k8s/torch-job.yaml", "alexnet-torch")
    before = copy.deepcopy(job)
    without(job, "spec.podReplacementPolicy")
    assert job == before


def test_the_documented_way_to_continue_a_run():
    """The line of docs/cluster.md that gives a new Job another one's run."""
    line = next(line for line in (ROOT / "docs/cluster.md").read_text().splitlines() if line.strip().startswith("sed "))
    command = line.partition(" | kubectl")[0].strip()
    changed = subprocess.run(["/bin/sh", "-c", f"RUN=0ffd5f01; {command}"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    before, after = training("k8s/torch-job.yaml", "alexnet-torch"), list(yaml.safe_load_all(changed))[-1]
    place = "spec.template.spec.containers.0.env.0"
    assert find(after, place) == {"name": "ALEXNET_RUN_ID", "value": "0ffd5f01"}
    assert without(after, place) == without(before, place)
