"""Which part of the package may import which."""

import ast
from pathlib import Path

import pytest

import job

ROOT = Path(job.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras"}


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


def within(part):
    paths = [path for path in FILES if path.is_relative_to(ROOT / part)]
    assert paths
    return paths


def begins(name, *packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("part", "allowed"), [("core", ["job.core"]), ("io", ["job.core", "job.io"]), ("analysis", ["job.core", "job.io", "job.analysis"])]
)
def test_inner_parts_know_nothing_of_outer_ones(part, allowed):
    for path in within(part):
        assert not {name for name in own(path) if not begins(name, *allowed)}, path


def test_engines_know_the_core_and_not_each_other():
    for path in within("engines"):
        assert not {name for name in own(path) if not begins(name, "job.core", "job.engines")}, path
        assert not {name for name in own(path) if begins(name, "job.engines.torch_engine", "job.engines.tensorflow_engine")}, path
    torch, tensorflow = (imports(ROOT / "engines" / f"{name}_engine.py") for name in ("torch", "tensorflow"))
    assert not any(begins(name, "tensorflow", "keras") for name in torch)
    assert not any(begins(name, "torch", "torchvision") for name in tensorflow)
    assert not any(begins(name, *FRAMEWORKS) for name in imports(ROOT / "engines" / "__init__.py"))


def test_frameworks_are_imported_by_engines_only():
    for path in FILES:
        if path.parent != ROOT / "engines":
            assert not {name for name in imports(path) if begins(name, *FRAMEWORKS)}, path


def test_one_file_talks_to_boto3():
    assert [path for path in FILES if any(begins(name, "boto3", "botocore") for name in imports(path))] == [ROOT / "io" / "s3.py"]


def test_core_needs_numpy_at_most():
    standard = __import__("sys").stdlib_module_names
    for path in within("core"):
        assert not {name for name in imports(path) if name.split(".")[0] not in {*standard, "job", "numpy"}}, path
