"""`pull` and `sync` leave alone what a symbolic link in a run's folder leads to, in both directions."""

from pathlib import Path

import pytest

from job.core.exits import Exit, JobError
from job.runs.listing import list_runs
from job.runs.pull import Pull
from job.runs.run import Run
from job.runs.sync import sync
from job.storage.files import encoded
from job.storage.folder import FolderStore
from tests.support.records import run_record


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "credentials").write_text("secret")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Two runs."""
    made = FolderStore(tmp_path / "runs")
    for run in ("r", "s"):
        made.put(f"{run}/run.json", encoded(run_record()))
        made.put(f"{run}/attempts/0001-abcdef/resources-0001.jsonl", b"{}\n")
    return made


def deliver(how: str, source: FolderStore, target: FolderStore) -> None:
    if how == "sync":
        sync(source.root, target, lambda _: None)
    else:
        Pull(Run(source, "r"), target.root, lambda _: None).run()


@pytest.mark.parametrize("how", ["sync", "pull"])
@pytest.mark.parametrize("link", ["attempts/0001-abcdef/resources-0002.jsonl", "attempts/0002-abcdef", "checkpoints"])
def test_a_link_in_the_source(how: str, link: str, store: FolderStore, outside: Path, tmp_path: Path) -> None:
    (store.root / "r" / link).symlink_to(outside / "credentials" if link.endswith("jsonl") else outside)
    target = FolderStore(tmp_path / "target")
    with pytest.raises(JobError, match=r"leads out of .*/runs/r by a symbolic link") as caught:
        deliver(how, store, target)
    assert caught.value.code is Exit.DATA
    assert not [path for path in tmp_path.glob("target/**/*") if path.is_file() and path.read_text() == "secret"]
    assert how == "pull" or target.list("s/"), "the other run is delivered"


@pytest.mark.parametrize("how", ["sync", "pull"])
@pytest.mark.parametrize("link", ["attempts", "attempts/0001-abcdef"])
def test_a_link_in_the_target(how: str, link: str, store: FolderStore, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "target" / "r" / link).parent.mkdir(parents=True)
    (tmp_path / "target" / "r" / link).symlink_to(outside)
    with pytest.raises(JobError, match=r"leads out of .*/target/r by a symbolic link"):
        deliver(how, store, FolderStore(tmp_path / "target"))
    assert [path.name for path in outside.rglob("*")] == ["credentials"]


def test_a_file_that_is_a_link_is_replaced_not_written_through(store: FolderStore, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "target" / "r").mkdir(parents=True)
    (tmp_path / "target" / "r" / "run.json").symlink_to(outside / "credentials")
    with pytest.raises(JobError, match="leads out of"):
        deliver("pull", store, FolderStore(tmp_path / "target"))
    assert (outside / "credentials").read_text() == "secret"


def test_a_run_that_lies_elsewhere_is_a_run(store: FolderStore, tmp_path: Path) -> None:
    """Its folder may be a link: somebody put it on a larger disk."""
    (store.root / "r").rename(tmp_path / "large")
    (store.root / "r").symlink_to(tmp_path / "large")
    deliver("pull", store, FolderStore(tmp_path / "target"))
    assert (tmp_path / "target" / "r" / "run.json").read_bytes() == encoded(run_record())


def test_one_link_does_not_hide_the_other_runs(store: FolderStore, outside: Path) -> None:
    (store.root / "r" / "attempts" / "0002-abcdef").symlink_to(outside)
    assert {row.run: row.state for row in list_runs(store)} == {"r": "damaged", "s": "interrupted"}
