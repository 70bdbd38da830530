"""The Docker engine, the images that `make build` makes in it, and containers as strict as the cluster's pods."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "bin" / "docker-up"
LOCAL_BASE = "local/cuda-base:bookworm"
TAG = "test"
BUILD_SECONDS, RUN_SECONDS = 3600, 400
STRICT = ("--user", "12345:23456", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "4g")


def client() -> str:
    """The client that comes with the engine may differ from the first one on PATH."""
    return "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"


def docker(*words: str, check: bool = True, seconds: float = RUN_SECONDS) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run([client(), *words], capture_output=True, text=True, check=False, timeout=seconds, env=environment, cwd=ROOT)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def engine_or_skip() -> list[str]:
    """Arguments for `make build`; BASE_IMAGE names another base.  Starts the engine of this workplace where there is one."""
    if SHARED.exists():
        subprocess.run([SHARED], check=True, capture_output=True, timeout=900)
    if shutil.which(client()) is None or docker("info", check=False).returncode != 0:
        pytest.skip("no Docker engine answers: `docker info` failed")
    local = LOCAL_BASE if docker("image", "inspect", LOCAL_BASE, check=False).returncode == 0 else ""
    base = os.environ.get("BASE_IMAGE", local)
    return [f"BASE_IMAGE={base}"] if base else []


def image(name: str) -> str:
    return f"alexnet-{name}:{TAG}"


def build(name: str, arguments: Sequence[str]) -> str:
    """What `make build` prints, for one image."""
    command = ["make", "--no-print-directory", f"build-{name}", f"TAG={TAG}", f"DOCKER={client()}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run(name: str, *words: str, options: Sequence[str] = (), check: bool = True) -> subprocess.CompletedProcess[str]:
    """`docker run --rm OPTIONS IMAGE WORDS`, as strict as a pod."""
    return docker("run", "--rm", *STRICT, *options, image(name), *words, check=check)


def shell(name: str, script: str, *options: str) -> str:
    """What a shell script prints in a container of the image, with the rights of STRICT."""
    return run(name, "-c", script, options=["--network", "none", "--entrypoint", "/bin/sh", *options]).stdout


class Container:
    """`docker run --detach`; removed at the end of the `with`."""

    def __init__(self, name: str, *words: str, options: Sequence[str] = ()) -> None:
        self.id = docker("run", "--detach", *STRICT, *options, image(name), *words).stdout.strip()

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "--force", "--volumes", self.id, check=False)

    @property
    def log(self) -> str:
        done = docker("logs", self.id)
        return done.stdout + done.stderr

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        state = json.loads(docker("inspect", "--format", "{{json .State}}", self.id).stdout)
        return None if state["Running"] else int(state["ExitCode"])

    def wait_for(self, text: str, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while text not in self.log:
            assert self.exit_code is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.2)
