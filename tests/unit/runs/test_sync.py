"""What `alexnet sync` delivers, in which order, and what it leaves alone.  Folders on both sides; a bucket in tests/e2e/test_sync.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from job.core.exits import Exit, JobError
from job.runs.sync import sync
from job.runs.tensorfile import write_tensors
from job.storage.errors import StoreError
from job.storage.files import encoded
from job.storage.folder import FolderStore
from tests.support.records import ATTEMPT, STEP, committed, entry, run_record

RECORD = run_record()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with one whole run, `r`."""
    run = tmp_path / "here" / "r"
    for folder in (STEP, f"attempts/{ATTEMPT}", f"final/{ATTEMPT}/plots"):
        (run / folder).mkdir(parents=True)
    (run / "run.json").write_bytes(encoded(RECORD))
    (run / "attempts" / ATTEMPT / "claim.json").write_text("{}\n")
    (run / "attempts" / ATTEMPT / "status.json").write_text('{"step": 10}\n')
    for name in ("model", "optimizer"):
        write_tensors(run / STEP / f"{name}.safetensors", {"a": (2, 3)}, "float32", [("a", np.ones((2, 3), np.float32))])
    (run / STEP / "state.json").write_text("{}\n")
    (run / STEP / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n')
    (run / STEP / "MANIFEST.json").write_bytes(encoded({"files": {p.name: entry(p.read_bytes()) for p in (run / STEP).iterdir()}}))
    final = run / "final" / ATTEMPT
    (final / "metrics.jsonl").write_text("{}\n")
    (final / "plots" / "loss.png").write_bytes(b"png")
    listed = {name: entry((final / name).read_bytes()) for name in ("metrics.jsonl", "plots/loss.png")}
    (run / "summary.json").write_bytes(encoded(committed(final=listed)))
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "there")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(here: Path, there: FolderStore, code: Exit) -> str:
    with pytest.raises(JobError) as caught:
        sync(here, there, lambda _: None)
    assert caught.value.code is code, caught.value
    return str(caught.value)


class Recording(FolderStore):
    """Remembers what was put, in order; the put numbered `fails_at` finds the server gone."""

    def __init__(self, root: Path, fails_at: int = -1) -> None:
        super().__init__(root)
        self.keys: list[str] = []
        self.fails_at = fails_at

    def put(self, key: str, data: bytes | Path) -> None:
        self._count(key)
        super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._count(key)
        return super().put_if_absent(key, data)

    def _count(self, key: str) -> None:
        if len(self.keys) == self.fails_at:
            raise StoreError(Exit.UNREACHABLE, "no connection.", transient=True)
        self.keys.append(key)


def test_everything_is_delivered_once(here: Path, there: FolderStore) -> None:
    said: list[str] = []
    sync(here, there, said.append)
    assert contents(there.root) == contents(here)
    before = {path: path.stat().st_mtime_ns for path in there.root.rglob("*")}
    sync(here, there, said.append)
    assert said[-1] == "run r: all there"
    assert {path: path.stat().st_mtime_ns for path in there.root.rglob("*")} == before


def test_what_vouches_for_others_comes_after_them(here: Path, tmp_path: Path) -> None:
    store = Recording(tmp_path / "there")
    sync(here, store, lambda _: None)
    assert store.keys[0] == "r/run.json"
    assert store.keys[-2:] == [f"r/{STEP}/MANIFEST.json", "r/summary.json"]


@pytest.mark.parametrize("fails_at", range(11))
def test_a_server_that_goes_away_at_any_put(here: Path, tmp_path: Path, fails_at: int) -> None:
    store = Recording(tmp_path / "there", fails_at)
    message = refused(here, store, Exit.NOT_STORED)
    found = contents(store.root) if store.root.exists() else {}
    assert "r/summary.json" not in found
    for key in contents(here).keys() - found.keys():
        assert key in message
    assert not any(key in message.partition("Not delivered:")[2].split(", ") for key in found)
    sync(here, FolderStore(store.root), lambda _: None)
    assert contents(store.root) == contents(here)


def test_a_checkpoint_whose_upload_had_not_begun_gets_its_manifest(here: Path, there: FolderStore) -> None:
    manifest = here / "r" / STEP / "MANIFEST.json"
    expected = json.loads(manifest.read_bytes())
    manifest.unlink()
    sync(here, there, lambda _: None)
    assert json.loads(there.get(f"r/{STEP}/MANIFEST.json")) == expected
    assert there.list("r/summary.json")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "metrics.jsonl"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_half_written_checkpoint_gets_none(here: Path, there: FolderStore, name: str, cut: bool) -> None:
    """As a process leaves it that was killed: a file ends early, or is not there."""
    (here / "r" / STEP / "MANIFEST.json").unlink()
    (here / "r" / "summary.json").unlink()
    path = here / "r" / STEP / name
    path.write_bytes(path.read_bytes()[:-4]) if cut else path.unlink()
    sync(here, there, lambda _: None)
    assert not there.list(f"r/{STEP}/MANIFEST.json")


def test_payload_that_is_there_only(here: Path, there: FolderStore) -> None:
    """A spool beside a local store has moved half of a checkpoint there already."""
    path = here / "r" / STEP / "model.safetensors"
    there.put(f"r/{STEP}/model.safetensors", path.read_bytes())
    path.unlink()
    sync(here, there, lambda _: None)
    assert there.list(f"r/{STEP}/MANIFEST.json")
    assert there.list("r/summary.json")


@pytest.mark.parametrize("name", [f"{STEP}/optimizer.safetensors", f"{STEP}/model.safetensors", f"final/{ATTEMPT}/plots/loss.png"])
def test_nothing_vouches_for_what_is_nowhere(here: Path, there: FolderStore, name: str) -> None:
    (here / "r" / name).unlink()
    there.put(f"r/{name}", b"of another size")
    if not name.endswith("optimizer.safetensors"):
        assert name in refused(here, there, Exit.NOT_STORED)
        assert not there.list("r/summary.json")
    else:
        assert f"{STEP}/MANIFEST.json" in refused(here, there, Exit.NOT_STORED)
    if name.startswith("checkpoints/"):
        assert not there.list(f"r/{STEP}/MANIFEST.json")


@pytest.mark.parametrize("name", [f"{STEP}/model.safetensors", f"final/{ATTEMPT}/metrics.jsonl"])
@pytest.mark.parametrize("there_already", [True, False])
def test_a_damaged_file_is_not_delivered(here: Path, there: FolderStore, name: str, there_already: bool) -> None:
    path = here / "r" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    if there_already:  # the same damage, of the same size
        there.put(f"r/{name}", bytes(data))
    assert name in refused(here, there, Exit.DATA)
    assert not there.list("r/summary.json")
    assert not there.list(f"r/{STEP}/MANIFEST.json") or name.startswith("final/")


def test_what_nobody_trusts_yet_is_replaced(here: Path, there: FolderStore) -> None:
    there.put(f"r/{STEP}/model.safetensors", b"half")
    there.put(f"r/attempts/{ATTEMPT}/status.json", b'{"step": 11}\n')  # of the same size
    sync(here, there, lambda _: None)
    assert contents(there.root) == contents(here)


def test_what_readers_trust_stays(here: Path, there: FolderStore) -> None:
    sync(here, there, lambda _: None)
    before = contents(there.root)
    for name in (f"{STEP}/state.json", f"{STEP}/MANIFEST.json", f"attempts/{ATTEMPT}/claim.json"):
        (here / "r" / name).write_text('{"other": 1}\n')
    (here / "r" / "final" / ATTEMPT / "metrics.jsonl").write_text('{"other": 1}\n')
    sync(here, there, lambda _: None)
    assert contents(there.root) == before


@pytest.mark.parametrize("ours", [True, False])
def test_another_attempts_summary_stays(here: Path, there: FolderStore, ours: bool) -> None:
    theirs = encoded(committed(attempt="0002-aaaaaa"))
    there.put("r/run.json", encoded(RECORD))
    there.put("r/summary.json", theirs)
    if not ours:
        (here / "r" / "summary.json").unlink()
    assert "0002-aaaaaa" in refused(here, there, Exit.SUPERSEDED)
    assert contents(there.root) == {"r/run.json": encoded(RECORD), "r/summary.json": theirs}


def test_another_run_of_the_same_name_is_refused(here: Path, there: FolderStore) -> None:
    there.put("r/run.json", encoded({**RECORD, "seed": 7}))
    assert "seed: 7 there, 0 here" in refused(here, there, Exit.CONFIGURATION)
    assert [entry.key for entry in there.list()] == ["r/run.json"]


def test_one_run_in_the_way_does_not_stop_the_others(here: Path, there: FolderStore) -> None:
    shutil.copytree(here / "r", here / "s")
    there.put("r/run.json", encoded({**RECORD, "seed": 7}))
    refused(here, there, Exit.CONFIGURATION)
    assert there.list("s/summary.json")


def test_temporary_files_and_spools_are_no_runs(here: Path, there: FolderStore) -> None:
    (here / ".tmp-spool-r-123" / "r").mkdir(parents=True)
    (here / ".tmp-spool-r-123" / "r" / "run.json").write_text("{}")
    (here / "r" / STEP / ".tmp-123").write_text("half")
    (here / "notes").mkdir()
    sync(here, there, lambda _: None)
    assert {entry.key.split("/")[0] for entry in there.list()} == {"r"}
    assert not any(".tmp-" in entry.key for entry in there.list())


def test_the_wrong_folder(here: Path, there: FolderStore, tmp_path: Path) -> None:
    assert f"that holds it: {here}" in refused(here / "r", there, Exit.USAGE)
    (tmp_path / "empty").mkdir()
    assert "there is no run" in refused(tmp_path / "empty", there, Exit.USAGE)


@pytest.mark.parametrize("text", ["[]", '{"attempt": "x"}', "not JSON"])
def test_a_damaged_summary(here: Path, there: FolderStore, text: str) -> None:
    (here / "r" / "summary.json").write_text(text)
    assert "summary.json" in refused(here, there, Exit.DATA)
    assert not there.list("r/summary.json")
