"""Which code runs, and where: read from the images' and the manifests' variables, from git, and from the driver."""

import shutil
import subprocess
from pathlib import Path

import pytest

from job.telemetry.gpu import NoDriver
from job.training import identity


def git(folder: Path, *words: str) -> str:
    setting = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *setting, "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package within a checkout."""
    package = tmp_path / "checkout" / "job"
    for room in ("core", "doctor"):
        (package / room).mkdir(parents=True)
        (package / room / "a.py").write_text("A = 1\n")
    (package / "__init__.py").write_text("")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "-m", "first")
    return package


def test_the_commit_of_a_checkout(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(package, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another checkout
    assert identity.checkout_revision(package) == commit
    (package / "core" / "a.py").write_text("A = 2\n")
    assert identity.checkout_revision(package) == f"{commit}-dirty"


def test_a_package_that_is_only_installed_below_a_checkout_has_no_commit(package: Path) -> None:
    installed = package.parent / "venv" / "job"
    shutil.copytree(package, installed)
    assert identity.checkout_revision(installed) is None


def test_no_checkout_and_no_git(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(package.parent / ".git")
    assert identity.checkout_revision(package) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert identity.checkout_revision(package) is None


def test_the_digest_is_of_the_files_that_decide_the_numbers(package: Path) -> None:
    digest = identity.source_digest(package)
    (package / "doctor" / "a.py").write_text("A = 2\n")
    (package / "core" / "notes.txt").write_text("nothing")
    assert identity.source_digest(package) == digest
    (package / "core" / "a.py").rename(package / "core" / "b.py")
    assert identity.source_digest(package) != digest


def test_an_image_tells_its_commit() -> None:
    code = identity.code({"ALEXNET_REVISION": "abc123", "ALEXNET_IMAGE": "alexnet-torch:0.1.0"})
    assert (code["revision"], code["image"]) == ("abc123", "alexnet-torch:0.1.0")
    assert identity.code({"ALEXNET_REVISION": "unknown"})["revision"] == identity.checkout_revision(identity.PACKAGE)


def test_the_place_in_a_cluster() -> None:
    told = {"node": "n1", "pod": "p-x7", "namespace": "ml", "job": "alexnet-torch", "job_uid": "1-2"}
    place = identity.place("cpu", {f"ALEXNET_{name.upper()}": text for name, text in told.items()})
    assert {**told, "gpu_uuid": None}.items() <= place.items()
    assert identity.place("cpu", {"ALEXNET_NODE": ""})["node"] is None


def test_the_gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "devices", lambda: [{"uuid": "GPU-1"}, {"uuid": "GPU-2"}])
    assert identity.place("NVIDIA H100", {})["gpu_uuid"] == "GPU-1"

    def silent() -> None:
        raise NoDriver("the driver does not answer")

    monkeypatch.setattr(identity, "devices", silent)
    assert identity.place("NVIDIA H100", {})["gpu_uuid"] is None
