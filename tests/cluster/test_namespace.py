"""`make e2e-cluster` on somebody's cluster: it deletes the namespace that it made, and no other one.  kubectl is a script here."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import __main__, kubectl

KUBECTL = """#!{python}
import json, pathlib, sys
folder, words = pathlib.Path({folder!r}), sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
if words[0] == "config":
    print("prod-eu, https://10.0.0.1", end="")
if words[:1] == ["create"]:
    made = json.load(sys.stdin)
    if made["metadata"]["name"] in (folder / "there").read_text():
        sys.exit("already exists")
    (folder / "made").write_text(json.dumps(made))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What kubectl was called with, so far."""
    script = tmp_path / "kubectl"
    script.write_text(KUBECTL.format(python=sys.executable, folder=str(tmp_path)))
    script.chmod(0o755)
    (tmp_path / "there").write_text("production")
    monkeypatch.setattr(kubectl, "KUBECTL", script)
    monkeypatch.setenv("NAMESPACE", "production")
    monkeypatch.setenv("ROWS", "1")
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def fails(_: Any) -> str:
    raise kubectl.Failed("it did not hold")


@pytest.mark.parametrize("row", [lambda _: "held", fails])
def test_only_its_own_namespace_is_deleted(
    row: Any, calls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "ROWS", [row])
    assert __main__.main() == (1 if row is fails else 0)
    made = json.loads((tmp_path / "made").read_text())["metadata"]
    assert capsys.readouterr().out.startswith(f"context prod-eu, https://10.0.0.1\nnamespace {made['name']}")
    assert made["name"].startswith("alexnet-e2e-")
    own = f"{kubectl.MARK}={made['labels'][kubectl.MARK]}"
    assert [words for words in calls() if "namespace" in words] == [["delete", "namespace", "-l", own, "--wait=false"]]
    assert "production" not in json.dumps(calls())


def test_a_namespace_that_is_there_stays(calls: Any) -> None:
    with pytest.raises(kubectl.Failed, match="already exists"), kubectl.own_namespace("production", keep=False):
        raise AssertionError("nothing may happen in there")
    assert [words[0] for words in calls()] == ["create"]


def test_it_is_kept_on_demand(calls: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with kubectl.own_namespace("mine", keep=True):
        pass
    assert [words[0] for words in calls()] == ["create"]
    assert "kubectl delete namespace -l alexnet-job/e2e=" in capsys.readouterr().out
