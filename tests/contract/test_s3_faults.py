"""Trouble between the client and a real S3 server, made by tests/support/proxy.py: nothing is lost, doubled or half there."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from job.core.exits import Exit
from job.storage.errors import NotFound, StoreError
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.proxy import Delay, Error, Fault, LostReply, Proxy, Request, Reset, Truncation
from tests.support.servers import Server

Set = Callable[[Mapping[str, str]], None]


@pytest.fixture
def proxy(weed: Server, set_environment: Set) -> Iterator[Proxy]:
    with Proxy(weed) as running:
        set_environment(running.environment | {"AWS_MAX_ATTEMPTS": "3"})
        yield running


@pytest.fixture
def store(proxy: Proxy, place: str) -> Store:
    return open_store(place)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "file"
    path.write_bytes(os.urandom(6 << 20))
    return path


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest that S3 allows, so that `big` goes in two."""
    monkeypatch.setattr("job.storage.s3.TRANSFER.multipart_threshold", 5 << 20)
    monkeypatch.setattr("job.storage.s3.TRANSFER.multipart_chunksize", 5 << 20)


def first(fault: Fault, method: str, part: str = "", times: int = 1) -> Callable[[Request], Fault | None]:
    """`fault` for the first requests with this method and this part in their path."""
    left = [times]

    def decide(request: Request) -> Fault | None:
        if request.method != method or part not in request.path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return decide


def test_a_busy_server_is_asked_again(proxy: Proxy, store: Store) -> None:
    proxy.decide = first(Error(status=503, code="ServiceUnavailable"), "PUT", times=2)
    store.put("k", b"x")
    assert [r.method for r in proxy.requests] == ["PUT"] * 3
    assert store.get("k") == b"x"


def test_a_server_that_stays_busy_is_told(proxy: Proxy, store: Store) -> None:
    proxy.decide = lambda _: Error(status=503, code="ServiceUnavailable")
    with pytest.raises(StoreError, match=r"503 ServiceUnavailable.*try again later") as caught:
        store.put("k", b"x")
    assert (caught.value.code, caught.value.transient) == (Exit.UNREACHABLE, True)
    assert len(proxy.requests) == 3


def test_without_a_word_from_the_user_a_request_is_tried_six_times(
    proxy: Proxy, set_environment: Set, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(proxy.environment)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    proxy.decide = lambda _: Reset()
    with pytest.raises(StoreError):
        open_store(place).list()
    assert len(proxy.requests) == 6


@pytest.mark.parametrize("attempts", ["1", "3"])
def test_put_if_absent_whose_reply_is_lost(proxy: Proxy, set_environment: Set, place: str, attempts: str) -> None:
    """With boto3's own tries, which meet the object of the first one, and without."""
    set_environment(proxy.environment | {"AWS_MAX_ATTEMPTS": attempts})
    store = open_store(place)
    proxy.decide = first(LostReply(), "PUT")
    assert store.put_if_absent("k", b"mine")
    assert proxy.counts["LostReply"] == 1
    assert store.get("k") == b"mine"
    proxy.decide = first(LostReply(), "PUT")
    assert not store.put_if_absent("k", b"another's")
    assert store.get("k") == b"mine"


def test_put_if_absent_that_loses_while_its_reply_is_lost(proxy: Proxy, store: Store, weed: Server, place: str) -> None:
    """Another writer is quicker, after this one has looked."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")

    def decide(request: Request) -> Fault | None:
        if request.method != "PUT" or proxy.counts["LostReply"]:
            return None
        weed.client().put_object(Bucket=bucket, Key=f"{prefix}/k", Body=b"theirs")
        return LostReply()

    proxy.decide = decide
    assert not store.put_if_absent("k", b"mine")
    assert store.get("k") == b"theirs"


def test_a_conflict_that_proves_nothing(proxy: Proxy, store: Store) -> None:
    """AWS: 409 means that another writer was there at the same moment, not that it won."""
    proxy.decide = first(Error(status=409, code="ConditionalRequestConflict"), "PUT")
    assert store.put_if_absent("k", b"x")
    assert store.get("k") == b"x"
    proxy.decide = lambda r: Error(status=409, code="ConditionalRequestConflict") if r.method == "PUT" else None
    with pytest.raises(StoreError, match="5 times neither stored nor there") as caught:
        store.put_if_absent("another", b"x")
    assert caught.value.transient


def test_a_store_that_cannot_be_asked_is_not_called_unconditional(proxy: Proxy, store: Store) -> None:
    proxy.decide = lambda _: Reset()
    with pytest.raises(StoreError, match="no connection"):
        _ = store.conditional
    proxy.decide = first(LostReply(), "PUT", times=4)
    assert store.conditional


def test_the_race_for_conditional_leaves_nothing_that_a_listing_shows(proxy: Proxy, store: Store) -> None:
    proxy.decide = lambda r: Error(status=403, code="AccessDenied") if r.method == "DELETE" else None
    assert store.conditional
    assert store.list() == []
    assert store.folders() == []


@pytest.mark.parametrize("part", ["?uploads", "partNumber=1", "partNumber=2", "?uploadId="])
@pytest.mark.parametrize(
    "fault", [LostReply(), Truncation(), Truncation(share=0.15), Error(status=500, code="InternalError"), Reset()], ids=repr
)
def test_a_big_file_in_spite_of_a_fault_in_each_of_its_requests(proxy: Proxy, store: Store, big: Path, part: str, fault: Fault) -> None:
    method = "PUT" if "partNumber" in part else "POST"
    proxy.decide = first(fault, method, part)
    store.put("a/big", big)
    assert proxy.counts[type(fault).__name__] == 1
    assert store.get("a/big") == big.read_bytes()
    assert [e.key for e in store.list()] == ["a/big"]
    store.abort_uploads("")


def test_a_big_file_that_cannot_be_stored_is_not_there_and_leaves_no_parts(proxy: Proxy, store: Store, big: Path) -> None:
    proxy.decide = lambda r: Error(status=500, code="InternalError") if "partNumber=2" in r.path else None
    with pytest.raises(StoreError, match="500 InternalError"):
        store.put("a/big", big)
    with pytest.raises(NotFound):
        store.get("a/big")
    assert store.abort_uploads("") == 0


CONTENT = os.urandom(300)


def got(store: Store, key: str, _: Path) -> bool:
    return store.get(key) == CONTENT


def downloaded(store: Store, key: str, path: Path) -> bool:
    store.download(key, path)
    return path.read_bytes() == CONTENT


def listed(store: Store, key: str, _: Path) -> bool:
    return [(e.key, e.size) for e in store.list(key)] == [(key, 300)]


def stored(store: Store, key: str, _: Path) -> bool:
    store.put(key, CONTENT)
    return store.get(key) == CONTENT


def created(store: Store, key: str, _: Path) -> bool:
    return store.put_if_absent(key, CONTENT) and store.get(key) == CONTENT


def deleted(store: Store, key: str, _: Path) -> bool:
    store.delete(key)
    return store.list(key) == []


@pytest.mark.parametrize(
    ("action", "method"), [(got, "GET"), (downloaded, "GET"), (listed, "GET"), (stored, "PUT"), (created, "PUT"), (deleted, "DELETE")]
)
def test_an_answer_cut_anywhere_is_never_accepted(
    proxy: Proxy, store: Store, tmp_path: Path, action: Callable[[Store, str, Path], bool], method: str
) -> None:
    """The first answer about each key ends after the number of bytes that the key names; headers take up to about 600."""
    lengths = [0, 5, 10, 15, 16, 17, *range(25, 900, 35)]
    if action not in (stored, created):
        for length in lengths:
            store.put(f"cut-{length}-", CONTENT)
    left = set(lengths)

    def decide(request: Request) -> Fault | None:
        match = re.search(r"cut-(\d+)-", request.path)
        if request.method != method or not match or int(match[1]) not in left:
            return None
        left.remove(int(match[1]))
        return Truncation(length=int(match[1]))

    proxy.decide = decide
    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(lambda length: action(store, f"cut-{length}-", tmp_path / str(length)), lengths))
    assert not left


def test_an_answer_that_is_always_cut_is_told_and_leaves_no_file(proxy: Proxy, store: Store, tmp_path: Path) -> None:
    store.put("k", os.urandom(3000))
    proxy.decide = lambda r: Truncation(share=0.9) if r.method == "GET" else None
    for action in (lambda: store.get("k"), lambda: store.download("k", tmp_path / "file"), lambda: store.list()):
        with pytest.raises(StoreError, match="answers were cut") as caught:
            action()
        assert (caught.value.code, caught.value.transient) == (Exit.UNREACHABLE, True)
    assert list(tmp_path.iterdir()) == []


def test_a_late_answer_is_waited_for(proxy: Proxy, store: Store) -> None:
    proxy.decide = first(Delay(seconds=1.5), "PUT")
    store.put("k", b"x")
    assert len(proxy.requests) == 1


def test_all_of_it_at_once(weed: Server, set_environment: Set, place: str, big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five workers under the shares that the end-to-end tests use."""
    with Proxy(weed, seed=7, errors=0.1, resets=0.05, delays=(0.05, 0.3), truncations=0.02, lost_replies=0.02) as proxy:
        set_environment(proxy.environment)
        monkeypatch.delenv("AWS_MAX_ATTEMPTS")
        store = open_store(place)

        def work(number: int) -> bool:
            for i in range(3):
                store.put(f"{number}/{i}", f"{number} {i}".encode())
                assert store.get(f"{number}/{i}") == f"{number} {i}".encode()
            store.delete(f"{number}/0")
            assert [e.key for e in store.list(f"{number}/")] == [f"{number}/{i}" for i in range(1, 3)]
            return store.put_if_absent("summary", f"{number}".encode())

        with ThreadPoolExecutor(6) as pool:
            upload = pool.submit(store.put, "big", big)
            won = list(pool.map(work, range(5)))
            upload.result()
        assert sum(won) == 1
        assert store.get("summary") == f"{won.index(True)}".encode()
        assert store.get("big") == big.read_bytes()
        assert proxy.counts["Error"] > 3
        assert proxy.counts["Reset"] > 0


def test_the_schedule_of_a_proxy_follows_its_seed(weed: Server) -> None:
    shares = {"errors": 0.1, "resets": 0.05, "delays": (0.05, 3.0), "truncations": 0.02, "lost_replies": 0.02}

    def drawn(seed: int, method: str) -> list[Fault | None]:
        with Proxy(weed, seed=seed, **shares) as proxy:  # type: ignore[arg-type]
            return [proxy.decide(Request(number=i, method=method, path="/", headers=None, body=b"")) for i in range(4000)]  # type: ignore[arg-type]

    puts = drawn(1, "PUT")
    assert puts == drawn(1, "PUT")
    assert puts != drawn(2, "PUT")
    counts = Counter(type(fault) for fault in puts)
    for kind, share in ((Error, 0.1), (Reset, 0.05), (Delay, 0.05), (Truncation, 0.02), (LostReply, 0.02)):
        assert share * 0.7 < counts[kind] / 4000 < share * 1.3
    assert Counter(type(fault) for fault in drawn(1, "GET"))[LostReply] == 0
