"""What can go wrong with a folder, and what the user hears of it."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from job.core.exits import Exit
from job.storage.errors import StoreError
from job.storage.folder import FolderStore
from job.storage.opening import open_store


def test_another_process_that_clears_up_makes_a_writer_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    original = Path.replace

    def cleared(self: Path, target: Path) -> Path:
        assert store.abort_uploads("") == 1
        return original(self, target)

    monkeypatch.setattr(Path, "replace", cleared)
    with pytest.raises(StoreError, match="another process") as caught:
        store.put("a/b", b"x")
    assert caught.value.transient
    assert store.list() == []


def test_something_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for store, key in ((FolderStore(tmp_path / "file"), "a"), (FolderStore(tmp_path), "file/a")):
        with pytest.raises(StoreError, match="in the way") as caught:
            store.put(key, b"x")
        assert (caught.value.code, caught.value.transient) == (Exit.CONFIGURATION, False)
        assert str(tmp_path / "file") in str(caught.value)


def test_a_place_where_no_folder_can_be_made() -> None:
    with pytest.raises(StoreError, match="/proc/x: such a folder cannot be made here") as caught:
        FolderStore(Path("/proc/x")).put("a", b"1")
    assert caught.value.code == Exit.CONFIGURATION


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="shorter") as caught:
        FolderStore(tmp_path).put("a" * 300, b"x")
    assert caught.value.code == Exit.CONFIGURATION


FORBIDDEN = """
import os, sys, time
from pathlib import Path
from job.storage.folder import FolderStore
from job.storage.store import StoreError
store = FolderStore(Path(sys.argv[1]))
if os.getuid() == 0:
    os.setuid(65534)  # root may write everywhere
assert store.get("a/b") == b"x"
assert abs(store.now() - time.time()) < 5
create = lambda: store.put_if_absent("c", b"x")
for action in (lambda: store.put("a/c", b"x"), lambda: store.delete("a/b"), create, lambda: store.conditional):
    try:
        action()
    except StoreError as error:
        print(int(error.code), error.transient, error)
"""


def test_no_write_permission() -> None:
    with tempfile.TemporaryDirectory() as folder:
        FolderStore(Path(folder)).put("a/b", b"x")
        for path in (Path(folder), Path(folder, "a")):
            path.chmod(0o555)
        result = subprocess.run([sys.executable, "-c", FORBIDDEN, folder], capture_output=True, text=True, check=False, timeout=60)
        for path in (Path(folder), Path(folder, "a")):
            path.chmod(0o755)
    lines = result.stdout.splitlines()
    assert len(lines) == 4, result
    for line in lines:
        assert line.startswith(f"78 False {folder}")
        assert "Change its owner or mode" in line


def test_a_file_url(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/with%20space").put("a", b"x")
    assert (tmp_path / "with space" / "a").read_bytes() == b"x"
