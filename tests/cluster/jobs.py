"""The Jobs of the manifests on a cluster, made small, and what they leave in the store."""

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
from typing import Any

import boto3
from botocore.config import Config

from tests.cluster.kubectl import ROOT, Failed, Namespace, kustomize, read, until
from tests.cluster.sets import KINDS, as_job
from tests.support.peaks import Sampler

GPU = os.environ.get("GPU", "1") != "0"
BUCKET, OUTPUT = "alexnet", "s3://alexnet/runs"


def image(name: str) -> str:
    """As REGISTRY and TAG name it.  Others by their tag alone: where images are loaded, not pulled, nobody has their digests."""
    if not name.startswith("alexnet-"):
        return name.partition("@")[0]
    repository, _, tag = name.partition(":")
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    return f"{registry + '/' if registry else ''}{repository}:{os.environ.get('TAG') or tag}"


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a Job, a Deployment or a set of workers."""
    found = as_job(document) if document["kind"] in KINDS else document
    pod = found.get("spec", {}).get("template", {}).get("spec", {})
    return list(pod.get("containers", []))


def ours(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With this call's images."""
    for document in documents:
        for each in [*containers(document), document.get("spec", {}).get("trainer", {})]:
            if "image" in each:
                each["image"] = image(each["image"])
    return documents


def is_job(document: dict[str, Any]) -> bool:
    return document["kind"] in ("Job", "JobSet")


class Cluster:
    def __init__(self, name: str) -> None:
        self.k = Namespace(name)
        self.secret = {
            "AWS_ACCESS_KEY_ID": f"AK{secrets.token_hex(9).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
            "AWS_ENDPOINT_URL_S3": "http://alexnet-s3:8333",
            "AWS_REGION": "us-east-1",
        }
        self.uids: dict[str, str] = {}
        """of Jobs by name"""
        self.undisturbed = ""
        """digest of the model of a run of EPOCHS epochs that nobody disturbed"""
        self.sampler = Sampler(self.k)

    def make_secret(self) -> None:
        self.k.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "alexnet-s3"}, "stringData": self.secret})

    # Jobs

    def small(self, engine: str, name: str, *, epochs: int, words: tuple[str, ...] = (), source: str | None = None) -> list[dict[str, Any]]:
        """The manifest with a recipe of seconds, under another name; the Job is the last one.  `source`: components, or a file."""
        documents = ours(
            read(source) if source and source.endswith(".yaml") else kustomize(source) if source else read(f"k8s/{engine}-job.yaml")
        )
        documents = sorted((d for d in documents if d["metadata"]["name"].startswith(f"alexnet-{engine}")), key=is_job)
        documents[-1]["metadata"]["name"] = name
        self.shrink(containers(documents[-1])[0], epochs, words)
        return documents

    def shrink(self, container: dict[str, Any], epochs: int, words: tuple[str, ...] = ()) -> None:
        kept = [a for a in container["args"] if not a.startswith(("--recipe=", "--data=", "--threads="))]
        container["args"] = [*kept, "--recipe=digits", "--data=digits", "--width=0.0625", "--threads=1", f"--epochs={epochs}", *words]
        container["resources"]["requests"]["cpu"] = "100m"
        if not GPU:
            self.without_gpu(container)

    @staticmethod
    def without_gpu(container: dict[str, Any]) -> None:
        for kind in ("requests", "limits"):
            container["resources"][kind].pop("nvidia.com/gpu")
        container["args"] = [a if a != "--device=cuda" else "--device=cpu" for a in container["args"]]

    def start(self, documents: list[dict[str, Any]]) -> str:
        """The Job's name."""
        self.k.apply(*documents)
        name: str = documents[-1]["metadata"]["name"]
        self.uids[name] = self.k.get(documents[-1]["kind"].lower(), name)["metadata"]["uid"]
        return name

    def newest_pod(self, job: str) -> dict[str, Any]:
        return until(f"a pod of {job}", lambda: (self.k.pods(job) or [None])[-1])

    def training(self, job: str, beyond: int = 0) -> str:
        """The name of the Job's newest pod, once it trains beyond that step."""

        def found() -> str | None:
            pod = self.newest_pod(job)
            if condition := self.k.ended(job):
                raise Failed(f"{job} ended before it could be disturbed: {condition['type']}")
            name: str = pod["metadata"]["name"]
            return name if pod["status"]["phase"] == "Running" and last_step(self.k.log(name)) > beyond else None

        return until(f"{job} at work", found)

    def failed(self, job: str) -> int:
        return int(self.k.job(job).get("status", {}).get("failed", 0))

    # The store

    def s3(self, port: int) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id=self.secret["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.secret["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    def keys(self, run: str) -> list[str]:
        with self.k.forwarded("alexnet-s3", 8333) as port:
            pages = self.s3(port).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"runs/{run}/")
            return [item["Key"].removeprefix(f"runs/{run}/") for page in pages for item in page.get("Contents", [])]

    def fetch(self, run: str, key: str) -> bytes:
        with self.k.forwarded("alexnet-s3", 8333) as port:
            return bytes(self.s3(port).get_object(Bucket=BUCKET, Key=f"runs/{run}/{key}")["Body"].read())

    def summary(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fetch(run, "summary.json"))
        return found

    def model(self, run: str) -> str:
        """Digest of its final model."""
        return hashlib.sha256(self.fetch(run, self.summary(run)["model"])).hexdigest()

    def alexnet(self, *words: str, code: int = 0) -> str:
        """What the command prints.  Failed where it ends with another code."""
        with self.k.forwarded("alexnet-s3", 8333) as port:
            kept = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "ALEXNET_"))}
            settings = {**kept, **self.secret, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
            done = subprocess.run(
                [sys.executable, "-m", "job", *words], capture_output=True, text=True, check=False, env=settings, cwd=ROOT
            )
        if done.returncode != code:
            raise Failed(f"alexnet {' '.join(words)}: exit code {done.returncode}: {done.stderr[-500:] or done.stdout[-500:]}")
        return done.stdout


def last_step(log: str) -> int:
    return max((int(n) for n in re.findall(r"step (\d+)/", log)), default=0)


def stored_step(log: str) -> int:
    found = re.search(r"a checkpoint of step (\d+) is stored", log)
    if not found:
        raise Failed(f"the log does not say that a checkpoint is stored: {log[-300:]}")
    return int(found[1])


def expect(held: bool, what: str) -> None:
    if not held:
        raise Failed(what)
