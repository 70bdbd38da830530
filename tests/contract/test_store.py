"""The promises of a store, on every implementation: a folder, SeaweedFS, and rclone, which ignores the condition of a put.

Both servers are real processes.
"""

import os
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from job.core.exits import Exit, JobError
from job.storage.errors import NotFound, StoreError
from job.storage.folder import FolderStore
from job.storage.opening import open_store
from job.storage.s3 import S3Store
from job.storage.store import Store
from tests.support.servers import Server

BIG = 20 << 20
"""bytes of a file that S3Store sends in parts"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "file"
    path.write_bytes(os.urandom(BIG))
    return path


def unfinished(store: Store, server: Server | None, key: str) -> None:
    """What a writer leaves that is killed half-way."""
    if isinstance(store, FolderStore):
        left = store.root / f"{key}/../.tmp-left"
        left.parent.resolve().mkdir(parents=True, exist_ok=True)
        left.resolve().write_bytes(b"half")
        return
    assert server
    bucket, prefix = bucket_and_prefix(store)
    client = server.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{key}")["UploadId"]
    client.upload_part(Bucket=bucket, Key=f"{prefix}/{key}", UploadId=upload, PartNumber=1, Body=bytes(5 << 20))


def bucket_and_prefix(store: Store) -> tuple[str, str]:
    parts = urlsplit(store.url)
    return parts.netloc, parts.path.strip("/")


@pytest.fixture
def server(store: Store, request: pytest.FixtureRequest) -> Server | None:
    name = request.node.callspec.params["store"]
    return None if name == "folder" else request.getfixturevalue(name)


def test_round_trip(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"three")
    store.put("a/bytes", b"one")
    store.put("a/empty", b"")
    store.put("a/b/file", path)
    store.put("a/b/ü +%&=?#é", b"four")
    assert store.get("a/bytes") == b"one"
    assert store.get("a/empty") == b""
    assert store.get("a/b/file") == b"three"
    assert store.get("a/b/ü +%&=?#é") == b"four"
    assert [(e.key, e.size) for e in store.list("a/")] == [("a/b/file", 5), ("a/b/ü +%&=?#é", 4), ("a/bytes", 3), ("a/empty", 0)]
    assert [e.key for e in store.list("a/b")] == ["a/b/file", "a/b/ü +%&=?#é", "a/bytes"]
    assert store.folders("a/") == ["b"]
    assert store.folders() == ["a"]
    store.put("a/bytes", b"another")
    assert store.get("a/bytes") == b"another"


def test_a_big_file_goes_in_parts(store: Store, server: Server | None, big: Path, tmp_path: Path) -> None:
    store.put("a/big", big)
    (tmp_path / "copy").write_bytes(b"old")
    with (tmp_path / "copy").open("rb") as reader:
        store.download("a/big", tmp_path / "copy")
        assert reader.read() == b"old"  # the new file took the old one's place; nobody saw half of each
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()
    assert [e.size for e in store.list("a/")] == [BIG]
    if server and server.ports[1:]:  # rclone's ETag does not tell
        bucket, prefix = bucket_and_prefix(store)
        assert server.client().head_object(Bucket=bucket, Key=f"{prefix}/a/big")["ETag"].endswith('-2"')  # of 16 MiB at most


def test_keys_are_relative_to_where_the_store_was_opened(store: Store) -> None:
    store.put("run/a", b"x")
    store.put("running/b", b"y")
    inner = open_store(f"{store.url}/run")
    assert inner.get("a") == b"x"
    assert [e.key for e in inner.list()] == ["a"]
    assert [e.key for e in store.list("run/")] == ["run/a"]


def test_an_object_is_visible_only_whole(store: Store, big: Path) -> None:
    """Readers and listings, while the object is stored and replaced again and again."""
    contents = [b"1" * BIG, big.read_bytes()]
    done = threading.Event()

    def write() -> None:
        try:
            for _ in range(3):
                store.put("a/object", contents[0])
                store.put("a/object", big)
        finally:
            done.set()

    def read() -> int:
        seen = 0
        while not done.is_set():
            assert {e.size for e in store.list()} <= {BIG}
            try:
                assert store.get("a/object") in contents
                seen += 1
            except NotFound:
                assert not seen
        return seen

    with ThreadPoolExecutor(2) as pool:
        reader, writer = pool.submit(read), pool.submit(write)
        writer.result()
        assert reader.result() > 0


def test_a_download_never_leaves_half_a_file(store: Store, big: Path, tmp_path: Path) -> None:
    """The system lets this process write no file of more than 1 MB, as a full disk would."""
    store.put("big", big)
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "copy").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StoreError, match="File too large") as caught:
            store.download("big", folder / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).startswith(f"{folder / 'copy'}:")
    assert caught.value.code == Exit.NOT_STORED
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("copy", b"old")]


def test_move_takes_the_file_away(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    store.put("a/k", b"old")
    store.move(path, "a/k")
    assert not path.exists()
    assert store.get("a/k") == b"x"
    with pytest.raises(FileNotFoundError):
        store.move(path, "a/k")
    with pytest.raises(FileNotFoundError):
        store.put("a/k", path)
    assert store.get("a/k") == b"x"


def test_what_is_not_there(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"x")
    for key in ("missing", "a", "a/b/c", "a/c"):
        with pytest.raises(NotFound):
            store.get(key)
        with pytest.raises(NotFound):
            store.download(key, tmp_path / "local" / "copy")
    for key in ("missing", "a/c"):
        store.delete(key)
    assert list((tmp_path / "local").iterdir()) == []
    assert store.list("missing/") == []
    assert store.folders("missing/") == []
    assert store.folders("a/b/") == []
    assert store.get("a/b") == b"x"


def test_delete(store: Store) -> None:
    store.put("a/b", b"x")
    store.put("a/c", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert [e.key for e in store.list()] == ["a/c"]
    store.delete("a/c")
    assert store.list() == []
    store.put("a/b", b"again")
    assert store.get("a/b") == b"again"


def test_writers_and_deleters_in_one_folder_do_not_disturb_each_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder goes with its last object, while another writer is about to put one there.

    rclone answers some of these with 500: boto3 tries again, as often as it does in a run."""
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    store = open_store(store.url)

    def work(number: int) -> None:
        for _ in range(20):
            store.put(f"a/b/{number}", b"x")
            store.delete(f"a/b/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert store.list() == []


def test_listing_is_sorted_and_complete(store: Store) -> None:
    """More objects, and more folders, than the 1,000 that a page of S3 holds."""
    keys = sorted([f"b/{i:04d}/x" for i in range(1010)] + ["a-b", "a.b", "a/b", "b-c"])
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), keys))
    assert [e.key for e in store.list()] == keys
    assert [e.key for e in store.list("b/10")] == [f"b/{i}/x" for i in range(1000, 1010)]
    assert store.folders("b/") == [f"{i:04d}" for i in range(1010)]
    assert store.folders() == ["a", "b"]


def test_put_if_absent_has_one_winner(store: Store, promises: bool) -> None:
    """Sixteen at the same moment.  Where the condition is ignored, several may believe that they won, and one of these did."""
    start = threading.Barrier(16)

    def write(number: int) -> bool:
        start.wait()
        return store.put_if_absent("a/summary.json", f"{number}".encode())

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert won[int(store.get("a/summary.json"))]
    assert sum(won) == 1 or not promises


def test_put_if_absent_leaves_what_is_there(store: Store) -> None:
    """This holds even where the condition is ignored."""
    assert store.put_if_absent("k", b"first")
    assert not store.put_if_absent("k", b"second")
    assert store.put_if_absent("k", b"first")  # the same bytes: as after a reply that was lost
    assert store.get("k") == b"first"


def test_the_weaker_promise_is_found_out(store: Store, promises: bool) -> None:
    """Also when several ask at once, and without a trace."""
    stores = [open_store(store.url) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda s: s.conditional, stores)) == [promises] * 2
    assert store.list() == []


def test_where_the_condition_is_ignored_the_last_writer_wins_and_all_believe_it(
    rclone: Server, place: str, set_environment: Callable[[Any], None]
) -> None:
    set_environment(rclone.environment)
    store = open_store(place)
    assert isinstance(store, S3Store)
    assert store._create("k", b"first")  # both have looked before either wrote
    assert store._create("k", b"second")
    assert store.get("k") == b"second"


def test_ages_are_by_the_clock_of_the_store(store: Store, server: Server | None) -> None:
    store.put("k", b"x")
    entry = store.list("k")[0]
    assert -1.1 < store.now() - entry.modified < 5
    if server:
        answer = server.client().list_buckets()["ResponseMetadata"]["HTTPHeaders"]["date"]
        from email.utils import parsedate_to_datetime

        assert abs(parsedate_to_datetime(answer).timestamp() - store.now()) <= 2


def test_now_does_not_use_the_local_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("k", b"x")
    true = time.time()
    for clock in ("job.storage.s3.time.time", "job.storage.folder.time.time"):
        monkeypatch.setattr(clock, lambda: true - 500.0)
    if isinstance(store, S3Store):  # signatures bear the local time, and servers allow for 15 minutes
        monkeypatch.undo()
    assert abs(store.now() - true) < 5


def test_abort_uploads_removes_what_dead_writers_left(store: Store, server: Server | None, promises: bool) -> None:
    store.put("run/whole", b"x")
    for key in ("run/a", "run/b/c", "running/d"):
        unfinished(store, server, key)
    assert [e.key for e in store.list()] == ["run/whole"]
    assert store.folders() == ["run"] or not promises  # rclone makes a folder at once
    assert store.abort_uploads("run/") == 2
    assert store.abort_uploads("run/") == 0
    assert store.abort_uploads("") == 1
    assert store.get("run/whole") == b"x"


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\\b", "a\nb", ".tmp-x", "a/.tmp-x/b", "a\ud800"])
def test_what_is_no_key(tmp_path: Path, set_environment: Callable[[Any], None], key: str) -> None:
    set_environment({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"})
    file = tmp_path / "file"
    file.touch()
    for store in (open_store(str(tmp_path / "store")), open_store("s3://bucket/prefix")):
        actions: list[Callable[[], Any]] = [
            lambda: store.put(key, b"x"),  # noqa: B023
            lambda: store.put(key, file),  # noqa: B023
            lambda: store.move(file, key),  # noqa: B023
            lambda: store.get(key),  # noqa: B023
            lambda: store.download(key, tmp_path / "copy"),  # noqa: B023
            lambda: store.put_if_absent(key, b"x"),  # noqa: B023
            lambda: store.delete(key),  # noqa: B023
        ]
        for action in actions:
            with pytest.raises(ValueError, match="a key is"):
                action()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gs://bucket/x",
        "http://host:9000/bucket",
        "s3://",
        "s3:/bucket",
        "s3://Bucket",
        "s3://b",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/x?y",
        "a\0b",
    ],
)
def test_what_names_no_store(url: str) -> None:
    with pytest.raises(JobError, match=r"Expected s3://bucket/prefix") as caught:
        open_store(url)
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("url", ["s3://AKIAKEY:5ecret@bucket/x", "https://AKIAKEY:5ecret@host/b", "s3://bucket/x?X-Amz-Signature=5ecret"])
def test_secrets_in_a_url_are_not_shown(url: str) -> None:
    with pytest.raises(JobError) as caught:
        open_store(url)
    assert "5ecret" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)
