"""The store in a bucket, and the only file that knows boto3.

Credentials, endpoint, region and certificates come from the variables and files that boto3 reads, and from nowhere else.  Texts of boto3
and of the server are never passed on, not even as an exception's context, since they may quote keys and signed URLs: what went wrong is
said in words of our own.  Log lines of boto3's libraries hold signatures, tokens and tracebacks; they stay off when a program turns on
debug lines for everything, unless it does so for these libraries by name, afterwards.
"""

import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from threading import Barrier
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError, IncompleteReadError, ResponseStreamingError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from job.core.exits import Exit, JobError
from job.storage.errors import NotFound, StoreError
from job.storage.files import TEMPORARY, local_errors
from job.storage.s3_errors import ConflictError, UnsupportedError, translate_error
from job.storage.store import Entry, Store, checked, checked_folder, checked_prefix, is_key
from job.storage.versioning import Versioning, days_until_removal

T = TypeVar("T")

MEBIBYTE = 1 << 20
CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 6
"""requests in all before boto3 gives one up; AWS_MAX_ATTEMPTS overrules"""
REPEATS = 4
"""further tries, by us, of an answer that was cut: boto3 does not repeat those"""
PROBES = 8
"""concurrent writers that find out whether the store honours `If-None-Match`; a sequential check would not notice"""
TRANSFER = TransferConfig(
    multipart_threshold=16 * MEBIBYTE, multipart_chunksize=16 * MEBIBYTE, max_concurrency=2, preferred_transfer_client="classic"
)


class S3Store(Store):
    """`s3://bucket/prefix`: the keys are those of the bucket that begin with `prefix/`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._bucket, self._prefix = _parts_of(url)
        for library in ("boto3", "botocore", "s3transfer", "urllib3"):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._client, self._credentials = _client()
        server = urlsplit(self._client.meta.endpoint_url)
        self._server = f"{server.scheme}://{server.netloc.rpartition('@')[2]}"

    @cached_property
    def conditional(self) -> bool:
        """The race is for an object of its own that no listing shows, and takes a few seconds on some servers."""
        full = f"{self._prefix}{TEMPORARY}probe-{secrets.token_hex(8)}"
        start = Barrier(PROBES)

        def write(number: int) -> bool:
            start.wait()
            return self._put_new(full, bytes([number]))

        try:
            with ThreadPoolExecutor(PROBES) as pool:
                list(pool.map(lambda _: self.now(), range(PROBES)))  # opens the connections, lest the first one wins unopposed
                return sum(pool.map(write, range(PROBES))) <= 1
        except UnsupportedError:
            return False
        finally:
            with suppress(StoreError, NotFound):
                self._call("delete_object", Key=full)

    def put(self, key: str, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            self._call("put_object", Key=self._full(key), Body=data)
            return
        full = self._full(key)
        with local_errors(data):
            self._tried(lambda: self._upload(data, full), full)

    def folders(self, prefix: str = "") -> list[str]:
        start = self._prefix + checked_folder(prefix)
        pages = self._pages(Prefix=start, Delimiter="/")
        names = (common["Prefix"].removeprefix(start).removesuffix("/") for page in pages for common in page.get("CommonPrefixes", ()))
        return sorted(set(filter(is_key, names)))

    def delete(self, key: str) -> None:
        with suppress(NotFound):
            self._call("delete_object", Key=self._full(key))

    def now(self) -> float:
        answer = self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date).timestamp() if date else time.time()

    def abort_uploads(self, prefix: str) -> int:
        start, count, more = self._prefix + checked_prefix(prefix), 0, dict[str, str]()
        while True:
            try:
                page = self._call("list_multipart_uploads", Prefix=start, **more)
            except UnsupportedError:
                return count
            for upload in page.get("Uploads", ()):
                if upload["Key"].startswith(start):
                    with suppress(NotFound):
                        self._call("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"])
                        count += 1
            if not page.get("IsTruncated"):
                return count
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def versioning(self) -> Versioning:
        try:
            if self._call("get_bucket_versioning").get("Status") != "Enabled":
                return Versioning(enabled=False)
        except (StoreError, NotFound):  # the server does not know the question, or the key may not ask
            return Versioning(enabled=None)
        try:
            rules = self._call("get_bucket_lifecycle_configuration").get("Rules", [])
        except NotFound:
            rules = []
        except StoreError:
            return Versioning(enabled=True, rules=None)
        return Versioning(enabled=True, rules=len(rules), days=days_until_removal(rules, self._prefix))

    def _copy(self, key: str, file: BinaryIO) -> None:
        full = self._full(key)

        def read() -> None:
            file.seek(0)
            file.truncate()
            body = self._client.get_object(Bucket=self._bucket, Key=full)["Body"]
            for block in body.iter_chunks(MEBIBYTE):  # raises when the body ends before its announced length
                file.write(block)

        self._tried(read, full)

    def _create(self, key: str, data: bytes) -> bool:
        try:
            return self._put_new(self._full(key), data)
        except UnsupportedError:
            self.put(key, data)
            return True

    def _put_new(self, full: str, data: bytes) -> bool:
        try:
            self._call("put_object", Key=full, Body=data, IfNoneMatch="*")
        except ConflictError:
            return False
        return True

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for page in self._pages(Prefix=self._prefix + prefix):
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._prefix)
                yield Entry(key=key, size=item["Size"], modified=item["LastModified"].timestamp())

    def _pages(self, **parameters: str) -> Iterator[dict[str, Any]]:
        while True:
            page = self._call("list_objects_v2", **parameters)
            yield page
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]

    def _full(self, key: str) -> str:
        return self._prefix + checked(key)

    def _upload(self, path: Path, key: str) -> None:
        with create_transfer_manager(self._client, TRANSFER) as transfers:  # aborts its multipart upload when it fails
            transfers.upload(os.fspath(path), self._bucket, key).result()

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self._bucket, **parameters)
            return answer

        return self._tried(ask, parameters.get("Key"))

    def _tried(self, action: Callable[[], T], full: str | None) -> T:
        """The one way to the server: cut answers are asked for again, all other failures put into words."""
        for remaining in reversed(range(REPEATS + 1)):
            try:
                return action()
            except (ClientError, BotoCoreError, ResponseParserError, HTTPError) as error:
                failure = error
            if remaining and _is_refusal(failure) and self._renew_credentials():
                continue
            if not remaining or not _is_cut(failure):
                break
            time.sleep(0.1 * (REPEATS - remaining))
        place = self.url if full is None else f"s3://{self._bucket}/{full}"
        raise translate_error(failure, f"{place} at {self._server}")

    def _renew_credentials(self) -> bool:
        """Read the files again, which may hold new credentials in place of expired ones; False: they are the same.

        Roles and web identities need none of it: boto3 renews theirs by itself."""
        with suppress(StoreError):
            client, found = _client()
            if found is not None and found != self._credentials:
                self._client, self._credentials = client, found
                return True
        return False


def _parts_of(url: str) -> tuple[str, str]:
    """Bucket, and prefix as it begins the keys: "" or with "/" at its end."""
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#]*))?", url)
    prefix = ((match and match[2]) or "").removesuffix("/")
    if match is None or (prefix and not is_key(prefix)):
        shown = repr(url) if re.fullmatch(r"s3:[^@?#]*", url) else "The URL (not shown, as it may hold a secret)"
        raise JobError(
            Exit.USAGE,
            f"{shown} names no place in a bucket. Expected s3://bucket/prefix: the bucket 3 to 63 small letters, digits, dots and "
            "hyphens, the prefix names joined by '/', without '?' and '#'. Credentials belong into the AWS variables.",
        )
    return match[1], f"{prefix}/" if prefix else ""


def _client() -> tuple[Any, Any]:
    """The client, and what it signs with: access key id, secret and token, or None where boto3 renews them."""
    try:
        session: Any = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)  # boto3 itself reads AWS_DEFAULT_REGION alone
        client = session.client("s3", config=_settings())
        if not re.search(r"\.amazonaws\.com(\.cn)?$", urlsplit(client.meta.endpoint_url).hostname or ""):
            client = session.client("s3", config=_settings().merge(_elsewhere(client.meta.config.s3 or {})))
        credentials = session.get_credentials()
        fixed = None if credentials is None or isinstance(credentials, RefreshableCredentials) else credentials.get_frozen_credentials()
        return _watched(client), fixed
    except (BotoCoreError, ValueError, OSError) as error:
        reason = type(error).__name__
    raise StoreError(
        Exit.CONFIGURATION,
        f"The AWS settings are not usable ({reason}). Expected AWS_PROFILE to name a profile in the files, "
        "AWS_ENDPOINT_URL_S3 a URL such as https://host:9000, AWS_REGION a region and AWS_CA_BUNDLE a file. Correct them, or unset "
        "what is not needed.",
    )


def _settings() -> Config:
    overruled = "AWS_MAX_ATTEMPTS" in os.environ
    return Config(
        user_agent="alexnet-job",  # boto3 puts its own together anew for each request, a tenth of a small one's time
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        tcp_keepalive=True,
        max_pool_connections=32,
        retries={"mode": "adaptive"} if overruled else {"mode": "adaptive", "total_max_attempts": ATTEMPTS},
    )


def _elsewhere(profile: Mapping[str, Any]) -> Config:
    """For servers that are not AWS: many know neither the checksums that boto3 adds since 1.36, nor, unless the profile says so, host
    names for buckets."""
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": profile.get("addressing_style", "path")},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _watched(client: Any) -> Any:
    client.meta.events.register("before-parse.s3", _refuse_cut_answer)
    client.meta.events.register_first("needs-retry.s3", _give_up_early)
    return client


def _refuse_cut_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Where a connection ends inside the headers or before a listing's first byte, boto3 sees an empty answer."""
    status, headers, body = response_dict["status_code"], response_dict["headers"], response_dict["body"]
    announced, received = headers.get("content-length"), len(body) if isinstance(body, bytes) else None
    if announced is None:
        empty = status == 204 or (status == 200 and operation_model.http["method"] in ("PUT", "DELETE"))
        cut = not empty and "chunked" not in headers.get("transfer-encoding", "")
    else:
        cut = received is not None and str(received) != announced
    if cut or (operation_model.name == "UploadPart" and status == 200 and "etag" not in headers):
        raise IncompleteReadError(actual_bytes=received or 0, expected_bytes=int(announced or 0))


def _give_up_early(caught_exception: Exception | None = None, **_: Any) -> bool | None:
    """False: another try would not help, whatever boto3 thinks.  It repeats untrusted certificates."""
    failure = caught_exception and translate_error(caught_exception, "")
    return False if isinstance(failure, StoreError) and not failure.transient else None


def _is_refusal(error: Exception) -> bool:
    """Did the server refuse these credentials, or what they ask for?"""
    return isinstance(error, ClientError) and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (400, 401, 403)


def _is_cut(error: Exception) -> bool:
    if isinstance(error, ClientError):  # an upload that is no longer there: it was aborted, or completed and the reply was lost
        return bool(error.response.get("Error", {}).get("Code") == "NoSuchUpload" and error.operation_name != "AbortMultipartUpload")
    return isinstance(error, IncompleteReadError | ResponseStreamingError | ResponseParserError | FlexibleChecksumError | HTTPError)
