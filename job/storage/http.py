"""One file over HTTP into a cache: resumed when cut, verified by digest, visible only whole.

What is in the cache is never trusted by its name: it has the expected digest, or it is downloaded again.
"""

import base64
import fcntl
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from job.core.exits import Exit, JobError
from job.storage.files import without_secrets

Progress = Callable[[int, int | None], None]
"""called with the bytes received and, where the server says it, the bytes in all"""

BLOCK = 1 << 18
TIMEOUT = 30.0
"""seconds without a byte after which a connection counts as cut"""
ANOTHER_SOURCE = "Use another copy with --mirror URL (or ALEXNET_MIRROR), or files of your own with --data PATH."


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    md5: str | None,
    progress: Progress | None = None,
    retries: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Bring `url` (http or https) to `target` and return it; a target with the right digests costs no request.

    `retries` counts failures in a row that brought no new byte.  Several processes may share a cache: one downloads, the others wait.
    Raises JobError: USAGE for what is no http URL, CONFIGURATION where the server refuses or the cache cannot be written, UNREACHABLE when
    the retries are used up, DATA when the file has twice arrived with another digest.
    """
    expected = {name: digest.lower() for name, digest in (("sha256", sha256), ("md5", md5)) if digest is not None}
    try:
        if target.is_file() and _digests(target, expected) == expected:
            return target
        plain_url, headers = _request_of(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock")):
            if target.is_file() and _digests(target, expected) == expected:
                return target  # another process brought it while this one waited
            part = _Part(url=plain_url, headers=headers, path=target.with_name(f"{target.name}.part"))
            if not expected:
                part.path.unlink(missing_ok=True)  # nothing could tell whether the rest of the file fits to it
            for _ in range(2):  # a part from an older version of the file spoils the first try, never the second
                part.complete(progress, retries, sleep)
                received = _digests(part.path, expected)
                if received == expected:
                    return part.path.replace(target)
                size = part.path.stat().st_size
                part.path.unlink()
    except OSError as error:
        raise JobError(
            Exit.CONFIGURATION,
            f"{target}: could not be written ({error.strerror or error}). Expected a folder with write access, file locks and enough room. "
            "Choose another cache folder, or use files of your own with --data PATH.",
        ) from None
    differing = next(name for name in expected if received[name] != expected[name])
    raise JobError(
        Exit.DATA,
        f"{without_secrets(url)}: received, twice, {size} bytes with {differing} {received[differing]}. "
        f"Expected {differing} {expected[differing]}. {ANOTHER_SOURCE}",
    )


class _InterruptedError(Exception):
    """A failure that may pass: worth another try."""


@dataclass(kw_only=True)
class _Part:
    """A file on its way."""

    url: str
    headers: Mapping[str, str]
    path: Path
    version: tuple[str | None, int | None] | None = None
    """ETag and length of the file whose bytes are in `path`, as far as this process has seen them"""

    def complete(self, progress: Progress | None, retries: int, sleep: Callable[[float], None]) -> None:
        """Add bytes until the file is whole, over as many connections as it takes."""
        failures = furthest = 0
        while True:
            try:
                return self._receive(progress)
            except _InterruptedError as error:
                reached = self._size()
                failures, furthest = (1, reached) if reached > furthest else (failures + 1, furthest)
                if failures > retries:
                    raise JobError(
                        Exit.UNREACHABLE,
                        f"{without_secrets(self.url)}: {error}; given up after {failures} tries. Expected the whole file. Check the "
                        f"network and the proxy variables and repeat the command: it continues after {reached} bytes. {ANOTHER_SOURCE}",
                    ) from None
                sleep(min(2.0 ** (failures - 1), 30.0))

    def _receive(self, progress: Progress | None) -> None:
        offset = self._size()
        with self._open(offset) as response:
            start, total = _span(response)
            version = (response.headers.get("ETag"), total)
            if start and (start != offset or (self.version or version) != version):
                self.path.unlink(missing_ok=True)
                raise _InterruptedError("the file changed on the server")
            self.version = version
            received = start
            with self.path.open("ab" if start else "wb") as file:
                while block := _read(response):
                    file.write(block)
                    received += len(block)
                    if progress is not None:
                        progress(received, total)
        if total is not None and received < total:
            raise _InterruptedError(f"the connection was cut after {received} of {total} bytes")

    def _open(self, offset: int) -> HTTPResponse:
        request = Request(self.url, headers={"User-Agent": "alexnet-job"})  # noqa: S310  `_request_of` has checked the scheme
        for name, value in self.headers.items():
            request.add_unredirected_header(name, value)  # credentials are for this host, not for where it may redirect to
        if offset:
            request.add_header("Range", f"bytes={offset}-")
        shown = without_secrets(self.url)
        try:
            return cast(HTTPResponse, urlopen(request, timeout=TIMEOUT))  # noqa: S310
        except HTTPError as error:
            error.close()
            if error.code == 416:  # the part is as long as the file, or longer
                self.path.unlink(missing_ok=True)
            if error.code in (408, 416, 429) or error.code >= 500:
                raise _InterruptedError(f"the server answered {error.code}") from None
            meaning = {401: "access denied", 403: "access denied", 404: "no such file", 410: "no such file"}.get(error.code, "refused")
            raise JobError(Exit.CONFIGURATION, f"{shown}: {meaning} ({error.code}). Expected the file. {ANOTHER_SOURCE}") from None
        except (OSError, HTTPException, UnicodeError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise JobError(
                    Exit.CONFIGURATION,
                    f"{shown}: the server's certificate is not trusted ({reason.verify_message}). "
                    f"Name your authority's certificates in SSL_CERT_FILE. {ANOTHER_SOURCE}",
                ) from None
            raise _InterruptedError(f"no answer ({_system_message(reason)})") from None

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def _request_of(url: str) -> tuple[str, dict[str, str]]:
    """The URL without user and password, and the header that carries them instead."""
    try:
        parts = urlsplit(url)
        valid = re.fullmatch(r"[!-~]+", url) and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:  # its text is not shown: where the parts of a URL cannot be told apart, neither can its secrets
        raise JobError(
            Exit.USAGE, "the URL of the download (--mirror) is not of the form https://host/path/file. Percent-encode special characters."
        )
    user, at, host = parts.netloc.rpartition("@")
    token = base64.b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {token}"} if at else {}


def _span(response: HTTPResponse) -> tuple[int, int | None]:
    """Where in the file the body starts, and how long the file is, if the server says so."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None:
            raise _InterruptedError("the server sent a part without saying which")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK)
    except (OSError, HTTPException) as error:
        raise _InterruptedError(f"the connection was cut ({_system_message(error)})") from None


def _system_message(reason: BaseException | str) -> str:
    """Only what the system says: texts of http.client may quote a URL."""
    return str(reason) if isinstance(reason, OSError | str) else type(reason).__name__


def _digests(path: Path, algorithms: Mapping[str, str]) -> dict[str, str]:
    digests = {}
    for name in algorithms:
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, partial(hashlib.new, name, usedforsecurity=False)).hexdigest()
    return digests


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for whoever holds the lock.  The file stays: to remove it would let two processes lock two files of one name."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
