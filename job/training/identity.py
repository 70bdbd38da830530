"""Who is at work: the code, the machine and the place of this process, for its claim."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from job.core.identity_records import Claim, Code, Company, Environment, Place, WorkerRecord
from job.telemetry.gpu import NoDriver, devices

PACKAGE = Path(__file__).parents[1]
DECIDING = ("core", "data", "engines", "runs", "training")
"""rooms that the numbers of a run depend on"""
GIT_SECONDS = 10.0


def claim(environment: Environment, *, started: float, variables: Mapping[str, str] = os.environ, gpu: int = 0) -> Claim:
    """For claim.json.  `environment`: the engine's; `started`: by the store's clock; `gpu`: number of the GPU in use."""
    return {**environment, **code(variables), **place(environment["device"], variables, gpu), **Company(), "started": started}


def code(variables: Mapping[str, str] = os.environ) -> Code:
    """The images' variables come first, then the checkout that the package lies in."""
    baked = variables.get("ALEXNET_REVISION", "")
    return {
        "version": version("alexnet-job"),
        "revision": baked if baked not in ("", "unknown") else checkout_revision(PACKAGE),
        "source": source_digest(PACKAGE),
        "image": variables.get("ALEXNET_IMAGE", ""),
    }


def place(device: str, variables: Mapping[str, str] = os.environ, gpu: int = 0) -> Place:
    """`device` as the engine names it; `gpu`: its number among the visible ones."""
    return {
        "host": os.uname().nodename,
        "gpu_uuid": None if device == "cpu" else gpu_uuid(gpu),
        "node": variables.get("ALEXNET_NODE") or None,
        "pod": variables.get("ALEXNET_POD") or None,
        "namespace": variables.get("ALEXNET_NAMESPACE") or None,
        "job": variables.get("ALEXNET_JOB") or None,
        "job_uid": variables.get("ALEXNET_JOB_UID") or None,
    }


def gpu_uuid(number: int) -> str | None:
    """Of a visible GPU."""
    try:
        return devices()[number]["uuid"] or None
    except (NoDriver, IndexError):
        return None


def worker(rank: int, claim: Claim) -> WorkerRecord:
    """Of one of several workers, for the claim that worker 0 puts."""
    return {
        "rank": rank,
        "host": claim["host"],
        "device": claim["device"],
        "gpu_uuid": claim["gpu_uuid"],
        "node": claim["node"],
        "pod": claim["pod"],
    }


def source_digest(package: Path) -> str:
    """SHA-256 over names and bytes of the Python files in the rooms DECIDING, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(path for room in DECIDING for path in (package / room).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def checkout_revision(package: Path) -> str | None:
    """The commit of the checkout, with `-dirty` where tracked files differ from it; None where the package is no part of one."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # a package that is only installed below some checkout is not of it
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None
