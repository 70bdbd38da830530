"""`download` against a real server that misbehaves in every way it should survive."""

import hashlib
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from job.core.exits import Exit, JobError
from job.storage.files import without_secrets
from job.storage.http import download

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes: several blocks
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Answer:
    """How the server treats one request."""

    status: int | None = None
    """an error, without a body"""
    body: bytes = BODY
    etag: str = '"1"'
    ranges: bool = True
    cut_after: int | None = None
    """bytes of this answer after which the connection is closed"""
    announced: int | None = None
    """a Content-Length that is not the body's"""
    location: str | None = None
    shift: int = 0
    """bytes by which a range starts too late, as its header says"""
    stalls: bool = False
    """sends half of the body, then nothing, with the connection open"""


@dataclass
class Served:
    url: str
    plan: list[Answer] = field(default_factory=list)
    """answers to the next requests; afterwards the last one again"""
    ranges: list[str | None] = field(default_factory=list)
    """Range of every request so far"""
    authorizations: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("no_proxy", "*")
    lock, stalled = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                served.ranges.append(self.headers.get("Range"))
                served.authorizations.append(self.headers.get("Authorization"))
                answer = served.plan.pop(0) if len(served.plan) > 1 else served.plan[0] if served.plan else Answer()
            if answer.status is not None:
                self.send_response(answer.status)
                if answer.location:
                    self.send_header("Location", answer.location)
                self.end_headers()
                return
            start = 0
            if answer.ranges and (wanted := self.headers.get("Range")):
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) + answer.shift
                if start >= len(answer.body):
                    self.send_response(416)
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}")
            else:
                self.send_response(200)
            body = answer.body[start:]
            self.send_header("Content-Length", str(len(body) if answer.announced is None else answer.announced))
            self.send_header("ETag", answer.etag)
            self.end_headers()
            if answer.stalls:
                self.wfile.write(body[: len(body) // 2])
                stalled.wait(5)
            else:
                self.wfile.write(body[: answer.cut_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served = Served(url=f"http://127.0.0.1:{http.server_port}/folder/file.tar.gz")
        yield served
        stalled.set()
        http.shutdown()
        thread.join()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.tar.gz"


def fails(url: str, target: Path, **options: object) -> JobError:
    with pytest.raises(JobError) as raised:
        download(url, target, **{"sha256": SHA256, "md5": None, "sleep": lambda _: None} | options)  # type: ignore[arg-type]
    return raised.value


def part_of(target: Path, content: bytes) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    return part


def test_a_file_arrives_whole_with_progress_and_leaves_no_part(server: Served, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert download(server.url, target, sha256=SHA256, md5=MD5, progress=lambda *now: seen.append(now)) == target
    assert target.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert [received for received, _ in seen] == sorted({received for received, _ in seen})
    assert {path.name for path in target.parent.iterdir()} == {"file.tar.gz", "file.tar.gz.lock"}


def test_a_cached_file_costs_no_request_even_in_a_read_only_folder(server: Served, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    download(server.url, target, sha256=SHA256, md5=MD5)
    assert server.ranges == []
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("digests", [{"sha256": SHA256, "md5": None}, {"sha256": None, "md5": MD5}])
def test_a_cached_file_with_another_digest_is_downloaded_again(server: Served, target: Path, digests: dict[str, str | None]) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY[:-1] + b"?")
    download(server.url, target, **digests)  # type: ignore[arg-type]
    assert target.read_bytes() == BODY
    assert len(server.ranges) == 1


def test_cut_connections_are_resumed_where_they_ended(server: Served, target: Path, slept: list[float]) -> None:
    server.plan = [Answer(cut_after=100_000)] * 9 + [Answer()]  # more cuts than retries: each one brings something
    download(server.url, target, sha256=SHA256, md5=None, sleep=slept.append)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, *(f"bytes={n}00000-" for n in range(1, 10))]
    assert slept == [1.0] * 9


def test_a_part_left_by_a_killed_process_is_resumed(server: Served, target: Path) -> None:
    part_of(target, BODY[:700_000])
    seen: list[int] = []
    download(server.url, target, sha256=SHA256, md5=None, progress=lambda received, _: seen.append(received))
    assert server.ranges == ["bytes=700000-"]
    assert target.read_bytes() == BODY
    assert seen[0] > 700_000


def test_without_a_digest_a_part_of_unknown_origin_is_not_resumed(server: Served, target: Path) -> None:
    part_of(target, b"something else")
    download(server.url, target, sha256=None, md5=None)
    assert server.ranges == [None]
    assert target.read_bytes() == BODY


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: Served, target: Path) -> None:
    server.plan = [Answer(cut_after=300_000), Answer(ranges=False)]
    download(server.url, target, sha256=SHA256, md5=None, sleep=lambda _: None)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-"]


@pytest.mark.parametrize("changed", [Answer(etag='"2"'), Answer(body=BODY + b"more")], ids=["etag", "length"])
def test_a_file_that_changes_between_two_connections_is_not_stitched(server: Served, target: Path, changed: Answer) -> None:
    server.plan = [Answer(body=b"old" + BODY[3:], cut_after=300_000), changed]
    download(server.url, target, sha256=None, md5=None, sleep=lambda _: None)
    assert target.read_bytes() == changed.body
    assert server.ranges == [None, "bytes=300000-", None]


def test_another_range_than_the_one_asked_for_is_not_stitched(server: Served, target: Path) -> None:
    server.plan = [Answer(cut_after=300_000), Answer(shift=50), Answer()]
    download(server.url, target, sha256=None, md5=None, sleep=lambda _: None)
    assert target.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_dropped(server: Served, target: Path) -> None:
    part_of(target, BODY + b"too much")
    download(server.url, target, sha256=SHA256, md5=None, sleep=lambda _: None)
    assert server.ranges == [f"bytes={len(BODY) + 8}-", None]
    assert target.read_bytes() == BODY


def test_a_part_of_another_file_spoils_one_try_only(server: Served, target: Path) -> None:
    part_of(target, b"?" * 500_000)
    download(server.url, target, sha256=SHA256, md5=None)
    assert server.ranges == ["bytes=500000-", None]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_busy_server_is_asked_again_with_growing_pauses(server: Served, target: Path, slept: list[float], status: int) -> None:
    server.plan = [Answer(status=status)] * 4 + [Answer()]
    download(server.url, target, sha256=SHA256, md5=None, sleep=slept.append)
    assert target.read_bytes() == BODY
    assert slept == [1.0, 2.0, 4.0, 8.0]


def test_a_connection_without_a_byte_for_long_counts_as_cut(server: Served, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.storage.http.TIMEOUT", 0.1)
    server.plan = [Answer(stalls=True), Answer()]
    start = time.monotonic()
    download(server.url, target, sha256=SHA256, md5=None, sleep=lambda _: None)
    assert time.monotonic() - start < 4  # the server itself gives up after 5
    assert server.ranges[0] is None
    assert str(server.ranges[1]).startswith("bytes=")
    assert target.read_bytes() == BODY


def test_a_server_that_stays_busy_is_unreachable(server: Served, target: Path, slept: list[float]) -> None:
    server.plan = [Answer(status=503)]
    error = fails(server.url, target, sleep=slept.append, retries=3)
    assert (error.code, len(server.ranges), len(slept)) == (Exit.UNREACHABLE, 4, 3)
    assert "503" in str(error)
    assert "--data PATH" in str(error)


def test_a_server_that_never_gets_further_is_given_up(server: Served, target: Path) -> None:
    server.plan = [Answer(ranges=False, cut_after=300_000)]
    error = fails(server.url, target, retries=3)
    assert (error.code, len(server.ranges)) == (Exit.UNREACHABLE, 4)
    assert f"300000 of {len(BODY)}" in str(error)


def test_no_server_is_unreachable(target: Path, slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    error = fails("http://127.0.0.1:9/file", target, sleep=slept.append)
    assert error.code == Exit.UNREACHABLE
    assert "Connection refused" in str(error)
    assert "--data PATH" in str(error)
    assert len(slept) == 5
    assert max(slept) <= 30


@pytest.mark.parametrize("status", [401, 403, 404, 410, 400])
def test_a_refusal_is_final(server: Served, target: Path, status: int) -> None:
    server.plan = [Answer(status=status)]
    error = fails(server.url, target)
    assert (error.code, len(server.ranges)) == (Exit.CONFIGURATION, 1)
    assert str(status) in str(error)
    assert "--mirror URL" in str(error)


def test_wrong_bytes_are_fetched_twice_then_refused_with_both_digests(server: Served, target: Path) -> None:
    wrong = b"<html>please log in</html>"
    server.plan = [Answer(body=wrong)]
    error = fails(server.url, target)
    assert error.code == Exit.DATA
    assert server.ranges == [None, None]
    for part in (SHA256, hashlib.sha256(wrong).hexdigest(), "26 bytes", "--mirror URL", "ALEXNET_MIRROR"):
        assert part in str(error)
    assert [path.name for path in target.parent.iterdir()] == ["file.tar.gz.lock"]


def test_a_damaged_transfer_is_repaired_by_the_second_try(server: Served, target: Path) -> None:
    server.plan = [Answer(body=b"?" + BODY[1:]), Answer()]
    download(server.url, target, sha256=None, md5=MD5)
    assert target.read_bytes() == BODY


def test_announced_lengths_that_are_wrong(server: Served, target: Path) -> None:
    server.plan = [Answer(announced=len(BODY) - 5), Answer()]  # too short: only the digest can tell
    download(server.url, target, sha256=SHA256, md5=None)
    assert server.ranges == [None, None]
    server.plan = [Answer(announced=len(BODY) + 5)]  # too long: the rest never comes
    target.unlink()
    assert fails(server.url, target, retries=2).code == Exit.UNREACHABLE


def test_secrets_in_a_url_reach_the_server_but_no_message(server: Served, target: Path) -> None:
    host = server.url.removeprefix("http://")
    secret = f"http://user:p%40ss@{host}?X-Amz-Signature=5ecret#fragment"
    for answer in (Answer(status=403), Answer(status=503), Answer(body=b"wrong")):
        server.plan = [answer]
        text = str(fails(secret, target, retries=1))
        assert server.url in text
        assert not any(word in text for word in ("user", "p%40ss", "p@ss", "5ecret", "fragment"))
    assert set(server.authorizations) == {"Basic dXNlcjpwQHNz"}


def test_credentials_do_not_follow_a_redirect(server: Served, target: Path) -> None:
    server.plan = [Answer(status=302, location=server.url), Answer()]
    download(server.url.replace("http://", "http://user:pass@"), target, sha256=SHA256, md5=None)
    assert server.authorizations == ["Basic dXNlcjpwYXNz", None]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/5ecret",
        "ftp://host/5ecret",
        "5ecret",
        "http://",
        "http://user:5ecret/@host/x",
        "https://host:5ecret/x",
        "https://host/a 5ecret",
        "https://host/ü5ecret",
    ],
)
def test_what_is_no_http_url_is_wrong_usage_and_not_repeated(target: Path, url: str) -> None:
    error = fails(url, target)
    assert error.code == Exit.USAGE
    assert "https://host/path/file" in str(error)
    assert "5ecret" not in str(error)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_untrusted_certificate_is_final_and_ssl_cert_file_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", "-nodes", *curve, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "file").write_bytes(BODY)
    handler = partial(QuietFiles, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as https:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        https.socket = context.wrap_socket(https.socket, server_side=True)
        thread = threading.Thread(target=https.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"https://localhost:{https.server_port}/file"
            error = fails(url, tmp_path / "target")
            assert error.code == Exit.CONFIGURATION
            assert "SSL_CERT_FILE" in str(error)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert download(url, tmp_path / "target", sha256=SHA256, md5=None).read_bytes() == BODY
        finally:
            https.shutdown()
            thread.join()


def test_a_cache_that_cannot_be_written_is_named(server: Served, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    error = fails(server.url, tmp_path / "cache" / "file.tar.gz")
    assert error.code == Exit.CONFIGURATION
    assert str(tmp_path / "cache") in str(error)


def test_downloads_into_one_cache_at_once_make_one_request(server: Served, target: Path) -> None:
    results: list[bytes] = []
    started = threading.Event()

    def first(received: int, total: int | None) -> None:
        started.set()
        assert not second.is_alive() or not results  # the second has nothing while the first is at work

    def fetch_second() -> None:
        started.wait(5)
        results.append(download(server.url, target, sha256=SHA256, md5=None).read_bytes())

    second = threading.Thread(target=fetch_second)
    second.start()
    download(server.url, target, sha256=SHA256, md5=None, progress=first)
    second.join()
    assert results == [BODY]
    assert len(server.ranges) == 1


def test_without_secrets() -> None:
    assert without_secrets("https://u:p@host:8443/a/b.tar.gz?X-Amz-Signature=s#f") == "https://host:8443/a/b.tar.gz"
    assert without_secrets("s3://key:secret@bucket/prefix/") == "s3://bucket/prefix/"
    assert without_secrets("https://host/@scope/x?next=a://b@c") == "https://host/@scope/x"
