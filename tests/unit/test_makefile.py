"""`make build` and `make push`, as far as `make -n` tells."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(*words):
    return subprocess.run(["make", "--no-print-directory", *words], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("name", ["torch", "tf"])
def test_build_takes_base_tag_registry_and_secrets(name):
    printed = make("-n", "build", "BASE_IMAGE=base:1", "TAG=7", "REGISTRY=r.example/you/", "ca=/x/ca", "pip.conf=/x/pip").stdout
    assert f"build --platform linux/amd64 -f Dockerfile.{name} -t r.example/you/alexnet-{name}:7 -t alexnet-{name} " in printed
    assert "--build-arg BASE_IMAGE=base:1 " in printed
    assert "--secret id=ca,src=/x/ca" in printed
    assert "--secret id=pip.conf,src=/x/pip" in printed
    assert "apt.conf" not in printed
    assert f"r.example/you/alexnet-{name}:7 Dockerfile.{name}\n" in printed


def test_build_needs_no_argument():
    printed = make("-n", "build").stdout
    version = next(line.split('"')[1] for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    assert f" -t alexnet-tf:{version} " in printed
    assert "BASE_IMAGE" not in printed
    assert "--secret" not in printed


def test_push_names_both_images():
    printed = make("-n", "push", "REGISTRY=r.example/you", "TAG=7", "DOCKER=docker").stdout
    assert "docker push r.example/you/alexnet-torch:7 && docker push r.example/you/alexnet-tf:7" in " ".join(printed.split())


def test_push_without_a_registry_is_refused():
    done = make("push", "DOCKER=false")
    assert done.returncode != 0
    assert "REGISTRY is empty" in done.stdout
