"""The wheel: installed into a fresh environment, it trains; one framework is enough, and nothing of the tests comes along."""

import email
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools writes beside the sources."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "job"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(built), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = built.glob("*.whl")
    return path


def test_it_asks_for_one_framework_and_for_no_tool_of_the_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        needed = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "tools/"))]
    always = [line for line in needed if "extra ==" not in line]
    assert not [line for line in always if line.startswith(("torch", "tensorflow", "pytest", "mypy", "ruff", "seaweedfs"))]
    assert [line.split("==")[0] for line in needed if 'extra == "torch"' in line] == ["torch"]
    assert [line.split("==")[0] for line in needed if 'extra == "tensorflow"' in line] == ["tensorflow"]


def test_it_trains_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are those of this environment, by a path; the package itself is not."""
    variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    fresh = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(fresh)], check=True)
    python = fresh / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=variables)
    (packages,) = fresh.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = [str(python), "-c", "import job; print(job.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, check=False, cwd=tmp_path, env=variables)
    assert found.stdout.startswith(str(fresh)), found.stderr
    words = ("train", "--engine", "torch", "--data", "digits", "--recipe", "digits", "--width", "0.0625", "--epochs", "1")
    done = subprocess.run([fresh / "bin" / "alexnet", *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    assert len([*tmp_path.glob("runs/*/final/*/report.html")]) == 1
