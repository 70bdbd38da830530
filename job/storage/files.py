"""Local files as a store needs them: written whole or not at all, their errors put into words, their digests, JSON of one form."""

import errno
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from job.core.exits import Exit
from job.storage.errors import StoreError

TEMPORARY = ".tmp-"
"""how the names of files begin that are not yet whole; no key may hold one"""
SIGNED = re.compile(r"\?[^\s'\"]*(X-Amz-|Signature=|sig=)[^\s'\"]*", re.IGNORECASE)
"""the query of a presigned URL, which is as good as a password while it lasts"""
LOGIN = re.compile(r"(?<=://)[^\s'\"/@]+@")
"""user and password in a URL"""
_FAILED = (Exit.NOT_STORED, True, "Check the disk or the file server, then try again.")
_FORBIDDEN = (
    Exit.CONFIGURATION,
    False,
    "Expected a folder that this user may read and write. Change its owner or mode, or choose another folder.",
)
_FULL = (Exit.NOT_STORED, True, "Expected room for the file. Free some, or choose another folder.")
_IN_THE_WAY = (Exit.CONFIGURATION, False, "Expected folders along this path and no folder at its end. Remove what is in the way.")
_ADVICE = {
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.ENAMETOOLONG: (Exit.CONFIGURATION, False, "Expected a shorter name. Choose a folder with a shorter path, or a shorter run id."),
}


@contextmanager
def new_file_beside(path: Path) -> Iterator[Path]:
    """An empty file of another name in the same folder, which is made if need be.  Removed at the end, unless it was renamed.

    As long as it is there, nobody can clear the folder away as empty.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    with local_errors(path):
        _create_file(temporary)
        try:
            yield temporary
        except FileNotFoundError as error:
            if temporary.exists() or error.filename != str(temporary):
                raise
            raise StoreError(
                Exit.NOT_STORED, f"{path}: another process removed the file while it was being written. Try again.", transient=True
            ) from None
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """What the operating system says about a file or a folder, as a StoreError.  FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        code, transient, advice = _ADVICE.get(error.errno or 0, _FAILED)
        raise StoreError(code, f"{path}: {error.strerror or error}. {advice}", transient=transient) from error


def _create_file(path: Path) -> None:
    """Make the file and its folders, again if somebody clears the empty folders away in between."""
    for last in (*[False] * 100, True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.touch(exist_ok=False)
        except FileNotFoundError:
            if last:
                code, transient, advice = _FORBIDDEN
                raise StoreError(code, f"{path.parent}: such a folder cannot be made here. {advice}", transient=transient) from None
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encoded(value: Any) -> bytes:
    """JSON that is the same bytes whoever writes it."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def without_credentials(text: str) -> str:
    """A message without the queries of signed URLs and without users and passwords, whoever put them there."""
    return LOGIN.sub("…@", SIGNED.sub("?…", text))


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment, any of which may hold credentials."""
    scheme, separator, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path
