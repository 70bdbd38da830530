"""From a URL to the store behind it."""

import re
from pathlib import Path
from urllib.parse import unquote

from job.core.exits import Exit, JobError
from job.storage.files import without_secrets
from job.storage.folder import FolderStore
from job.storage.store import Store


def open_store(url: str) -> Store:
    """The store at `s3://bucket/prefix`, at a folder's path or at `file:///path`.  JobError(USAGE) for anything else."""
    if url.startswith("s3:"):
        from job.storage.s3 import S3Store  # here, because boto3 takes long to import

        return S3Store(url)
    local = bool(url) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", url) is None
    path = unquote(url.removeprefix("file://")) if url.startswith("file:///") else url if local else ""
    if not path or "\0" in path:
        shown = "The URL" if "@" in url else repr(without_secrets(url))
        raise JobError(
            Exit.USAGE,
            f"{shown} names no store. Expected s3://bucket/prefix, a folder's path or file:///path. "
            "The address of an S3 server belongs into AWS_ENDPOINT_URL_S3.",
        )
    return FolderStore(Path(path), url)


def split(url: str) -> tuple[Store, str]:
    """The store and the key of a single file.  Raises JobError (2) for what names none."""
    parent, slash, name = url.rpartition("/")
    if not name or parent in ("s3:/", "s3:"):
        raise JobError(Exit.USAGE, f"{url!r} names no file. Expected a path such as folder/FILE, or s3://bucket/folder/FILE.")
    return open_store(parent or slash or "."), name


def split_page(output: str, default: str) -> tuple[Store, str]:
    """The store and the name of a page: FILE.html in a folder or a bucket, else `default` in what `output` names."""
    parent, _, name = output.rpartition("/")
    if name.endswith(".html"):
        return open_store(parent or ("/" if output.startswith("/") else ".")), name
    return open_store(output), default
