"""Which part of the package may import which.  Arrows point down only, and nothing is imported in a circle."""

import ast
import functools
import graphlib
import sys
from pathlib import Path

import pytest

import job

ROOT = Path(job.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras"}

ROOMS = {
    "core": set(),
    "telemetry": {"core"},
    "storage": {"core"},
    "figures": {"core"},
    "engines": {"core"},
    "data": {"core", "storage"},
    "runs": {"core", "storage"},
    "parity": {"core", "storage", "runs", "engines"},
    "analysis": {"core", "storage", "runs", "figures"},
    "inference": {"core", "storage", "runs", "data", "engines"},
    "workers": {"core", "engines"},
    "training": {"core", "storage", "runs", "data", "engines", "workers", "telemetry", "figures", "analysis"},
    "watch": {"core", "storage", "runs", "figures", "analysis"},
    "doctor": {"core", "storage", "runs", "data", "engines", "telemetry", "training"},
    "bench": {"core", "engines", "telemetry", "analysis"},
    "acceptance": {"core", "storage", "runs", "data", "engines", "telemetry", "training", "doctor", "bench"},
    "fleet": {"core", "storage", "runs", "figures", "analysis", "acceptance"},
}
"""room → the rooms that it may import; `cli` may import all"""


@functools.cache
def imports(path):
    """Absolute names of all modules that a file imports, at any depth, also by import_module with a constant."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {ast.literal_eval(a) for a in node.args if isinstance(a, ast.Constant)}
    return found


def own(path):
    return {name for name in imports(path) if name.split(".")[0] == "job"}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def begins(name, *packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_those_below_it(room):
    paths = [path for path in FILES if room_of(path) == room]
    assert paths
    for path in paths:
        strangers = {name for name in own(path) if name.split(".")[1] not in {room, *ROOMS[room]}}
        assert not strangers, f"{path}: {strangers}"


def test_every_file_is_in_a_room():
    assert {room_of(path) for path in FILES} == {*ROOMS, "cli", "__init__", "__main__"}


def test_every_room_says_what_it_owns():
    for path in ROOT.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_circle():
    modules = {".".join(("job", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path for path in FILES}
    graph = {
        name: {m for m in modules if m != "job" and any(i == m or i.rpartition(".")[0] == m for i in own(path))} - {name}
        for name, path in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_engines_do_not_know_each_other():
    modules = [f"job.engines.{name}_{part}" for name in ("torch", "tensorflow") for part in ("engine", "exchange")]
    for path in (path for path in FILES if room_of(path) == "engines"):
        others = [module for module in modules if not module.startswith(f"job.engines.{path.stem.partition('_')[0]}_")]
        assert not {name for name in own(path) if begins(name, *others)}, path
    torch, tensorflow = (imports(ROOT / "engines" / f"{name}_engine.py") for name in ("torch", "tensorflow"))
    assert not any(begins(name, "tensorflow", "keras") for name in torch)
    assert not any(begins(name, "torch", "torchvision") for name in tensorflow)
    assert not any(begins(name, *FRAMEWORKS) for name in imports(ROOT / "engines" / "__init__.py"))


def test_frameworks_are_imported_by_engines_only():
    for path in FILES:
        if path.parent != ROOT / "engines":
            assert not {name for name in imports(path) if begins(name, *FRAMEWORKS)}, path


def test_one_file_talks_to_boto3():
    assert [path for path in FILES if any(begins(name, "boto3", "botocore") for name in imports(path))] == [ROOT / "storage" / "s3.py"]


def test_telemetry_knows_the_form_of_its_rows_and_nothing_else_of_ours():
    for path in (path for path in FILES if room_of(path) == "telemetry"):
        assert not {name for name in own(path) if not begins(name, "job.telemetry", "job.core.resource_records", "job.core.thinning")}, path


def test_core_needs_numpy_at_most():
    for path in (path for path in FILES if room_of(path) == "core"):
        assert not {name for name in imports(path) if name.split(".")[0] not in {*sys.stdlib_module_names, "job", "numpy"}}, path
