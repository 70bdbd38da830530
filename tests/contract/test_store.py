"""The promises of a store, on every implementation; SeaweedFS is a real server process."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from job.io.store import NotFound, Store, open_store
from tests.servers import Server, weed


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with weed() as running:
        running.make_bucket("contract")
        yield running


@pytest.fixture(params=["folder", "weed"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    for name, value in request.getfixturevalue("server").environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://contract/{uuid4().hex}")


def test_round_trip(store: Store, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 4 * 20_000)  # 20 MB
    store.put("a/bytes", b"one")
    store.put("a/empty", b"")
    store.put("a/b/file", big)
    assert store.get("a/bytes") == b"one"
    assert store.get("a/empty") == b""
    store.download("a/b/file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()
    assert [(e.key, e.size) for e in store.list("a/")] == [("a/b/file", 20_480_000), ("a/bytes", 3), ("a/empty", 0)]
    assert store.folders("a/") == ["b"]
    assert store.folders() == ["a"]


def test_move_takes_the_file_away(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    store.move(path, "k")
    assert not path.exists()
    assert store.get("k") == b"x"


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.get("missing")
    with pytest.raises(NotFound):
        store.download("missing", tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []
    assert store.list("missing/") == []
    assert store.folders("missing/") == []
    store.delete("missing")


def test_delete(store: Store) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert store.list() == []


def test_put_if_absent_has_one_winner(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.put_if_absent("summary.json", f"{i}".encode()), range(8)))
    assert sum(won) == 1
    assert store.get("summary.json") == f"{won.index(True)}".encode()
    assert store.conditional


def test_the_clock_is_sane(store: Store) -> None:
    store.put("k", b"x")
    assert abs(store.now() - time.time()) < 60
    assert abs(store.list("k")[0].modified - store.now()) < 60


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a\\b", "a\nb", ".tmp-x"])
def test_what_is_no_key(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="a key is"):
        store.put(key, b"x")
