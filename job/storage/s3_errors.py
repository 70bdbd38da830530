"""What a failed request to an S3 store means: in words, as an exit code, and whether trying again may help.

Knows boto3's exceptions by their names only.  Nothing of their texts, or of the server's, is passed on: these may quote keys, tokens and
signed URLs.
"""

import re
from email.utils import formatdate
from typing import Any, NamedTuple

from job.core.exits import Exit
from job.storage.errors import NotFound, StoreError


class ConflictError(StoreError):
    """There is an object already, or another writer at the same moment."""


class UnsupportedError(StoreError):
    """The server says that it does not have this function."""


def translate_error(error: Any, place: str) -> Exception:
    """The exception for the caller, in place of one that boto3 or urllib3 raised; `place` names the store and the server."""
    if isinstance(getattr(error, "response", None), dict):  # connection errors have one too: None
        return _refusal(error, place)
    kinds = [kind.__name__ for kind in type(error).__mro__]
    text = f"{error} {getattr(error, 'kwargs', {}).get('error')}"  # boto3's own text may leave out what the system said
    of_connection = "ProxyConnectionError" not in kinds and ("ConnectionError" in kinds or "HTTPClientError" in kinds)
    by_text = (case for part, case in _BY_TEXT.items() if of_connection and part in text)
    by_type = (_BY_TYPE[kind] for kind in kinds if kind in _BY_TYPE)
    return _error(next(by_text, None) or next(by_type, _UNUSABLE), place, type(error).__name__)


class _Case(NamedTuple):
    message: str
    advice: str
    code: Exit = Exit.CONFIGURATION

    @property
    def transient(self) -> bool:
        return self.code not in (Exit.CONFIGURATION, Exit.DEVICE)


_PAIR = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names."
_UNKNOWN_KEY = _Case("the store does not know this access key id", _PAIR)
_WRONG_SECRET = _Case("the secret does not belong to the access key id", _PAIR)
_NO_KEY = _Case(
    "no credentials", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the pod a service account with a role."
)
_NO_KEY_NOW = _Case("the source of the credentials gave none", "Check the metadata service or the credential process.", Exit.UNREACHABLE)
_EXPIRED = _Case("the credentials have expired or were withdrawn", "Get new ones (AWS_SESSION_TOKEN, `aws sso login`), then start again.")
_ROLE = _Case("the role was refused", "Check AWS_ROLE_ARN, its trust policy, and the token that AWS_WEB_IDENTITY_TOKEN_FILE names.")
_DENIED = _Case(
    "access denied",
    "Give this key the right to list, read, write and delete there and to list and abort multipart uploads, or use another.",
)
_NO_BUCKET = _Case("the bucket does not exist", "Create it, or correct its name or AWS_ENDPOINT_URL_S3.")
_REGION = _Case("the bucket is in another region", "Set AWS_REGION to the bucket's region.")
_SKEW = _Case("the clocks differ too much", "Set the wrong one (NTP), or use another node.", Exit.DEVICE)
_FULL = _Case("the store is full, or a quota is used up", "Free some room there, then try again.", Exit.NOT_STORED)
_BUSY = _Case("the server failed or is overloaded", "Look at the server, and try again later.", Exit.UNREACHABLE)
_TLS = _Case("the server's certificate is not trusted", "Name your authority's certificates in AWS_CA_BUNDLE, and check the host name.")
_NO_TLS = _Case("the server does not speak TLS", "Write http:// in AWS_ENDPOINT_URL_S3, or the port that does.")
_NO_BUNDLE = _Case("there are no certificates", "Have AWS_CA_BUNDLE name a file with your authority's certificates, or unset it.")
_CUT = _Case("answers were cut, or not those of an S3 server", "Check AWS_ENDPOINT_URL_S3 and the network.", Exit.UNREACHABLE)
_NAME = _Case("the host name is unknown", "Check AWS_ENDPOINT_URL_S3 and the name service (DNS).", Exit.UNREACHABLE)
_SILENT = _Case("no answer in time", "Check AWS_ENDPOINT_URL_S3, firewalls and network policies.", Exit.UNREACHABLE)
_PROXY = _Case("the proxy does not answer", "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.", Exit.UNREACHABLE)
_UNREACHABLE = _Case("no connection", "Check AWS_ENDPOINT_URL_S3 (http or https, host, port), and that the server runs.", Exit.UNREACHABLE)
_CONFLICT = _Case("another writer was there at the same moment", "Try again.", Exit.UNREACHABLE)
_GONE = _Case("an upload vanished, as if another process had aborted it", "Try again.", Exit.UNREACHABLE)
_UNSUPPORTED = _Case("the server does not have a function that is needed", "Use another S3 server, or a newer version of this one.")
_SPEAKS_TLS = _Case("the server did not understand", "If it speaks TLS, write https:// in AWS_ENDPOINT_URL_S3; else check host and port.")
_NO_S3 = _Case("the answer is not that of an S3 server", "Check AWS_ENDPOINT_URL_S3, and that the server behind it runs.", Exit.UNREACHABLE)
_DAMAGED = _Case("data arrived damaged", "Check the network, and try again.", Exit.UNREACHABLE)
_REFUSED = _Case("the server refused the request", "Check that it is an S3 server, and the names of bucket and prefix.")
_UNUSABLE = _Case("boto3 refused the request", "Check the AWS variables and files, and the names of bucket and prefix.")

_BY_CODE = {
    "AccessDenied": _DENIED,
    "AuthorizationHeaderMalformed": _REGION,
    "BadDigest": _DAMAGED,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "IllegalLocationConstraintException": _REGION,
    "IncompleteBody": _DAMAGED,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "InvalidClientTokenId": _UNKNOWN_KEY,
    "InvalidToken": _EXPIRED,
    "NoSuchBucket": _NO_BUCKET,
    "NoSuchUpload": _GONE,
    "PermanentRedirect": _REGION,
    "QuotaExceeded": _FULL,
    "RequestTimeTooSkewed": _SKEW,
    "RequestTimeout": _BUSY,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "SlowDown": _BUSY,
    "Throttling": _BUSY,
    "TokenRefreshRequired": _EXPIRED,
    "XAmzContentSHA256Mismatch": _DAMAGED,
    "XMinioStorageFull": _FULL,
}
_BY_STATUS = {
    301: _REGION,
    307: _REGION,
    401: _DENIED,
    403: _DENIED,
    408: _BUSY,
    409: _CONFLICT,
    412: _CONFLICT,
    429: _BUSY,
    501: _UNSUPPORTED,
    507: _FULL,
}
_BY_TYPE = {
    "ConnectTimeoutError": _SILENT,
    "ConnectionError": _UNREACHABLE,
    "CredentialRetrievalError": _NO_KEY_NOW,
    "FlexibleChecksumError": _DAMAGED,
    "HTTPClientError": _UNREACHABLE,
    "HTTPError": _UNREACHABLE,
    "IncompleteReadError": _CUT,
    "LoginError": _EXPIRED,
    "MetadataRetrievalError": _NO_KEY_NOW,
    "NoCredentialsError": _NO_KEY,
    "PartialCredentialsError": _NO_KEY,
    "ProxyConnectionError": _PROXY,
    "ReadTimeoutError": _SILENT,
    "ResponseParserError": _CUT,
    "ResponseStreamingError": _CUT,
    "SSOError": _EXPIRED,
    "TokenRetrievalError": _EXPIRED,
}
_BY_TEXT = {
    "CERTIFICATE_VERIFY_FAILED": _TLS,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "record layer failure": _NO_TLS,
    "doesn't match": _TLS,
    "No such file or directory": _NO_BUNDLE,
    "X509": _NO_BUNDLE,
    "Name or service not known": _NAME,
    "Temporary failure in name resolution": _NAME,
    "No address associated with hostname": _NAME,
}
"""parts of boto3's text, for where the type does not say enough"""


def _refusal(error: Any, place: str) -> Exception:
    """What an answer of the server means."""
    metadata, answer = error.response.get("ResponseMetadata", {}), error.response.get("Error", {})
    status, headers = metadata.get("HTTPStatusCode", 0), metadata.get("HTTPHeaders", {})
    name = _plain(answer.get("Code"))
    if name in ("NoSuchKey", "NoSuchLifecycleConfiguration") or (name == "NoSuchUpload" and error.operation_name == "AbortMultipartUpload"):
        return NotFound(f"{place}: no such object")
    if name in ("", str(status)) and status in (400, 404):
        case = _NO_S3 if status == 404 else _SPEAKS_TLS
    else:
        case = _BY_CODE.get(name) or _BY_STATUS.get(status) or (_BUSY if status >= 500 else _REFUSED)
    if "AssumeRole" in error.operation_name and case in (_DENIED, _REFUSED, _UNKNOWN_KEY):
        case = _ROLE
    known = {
        _SKEW: f" This machine's clock says {formatdate(usegmt=True)}, the server's {headers.get('date', 'nothing')}.",
        _REGION: f" The server names {_plain(headers.get('x-amz-bucket-region') or answer.get('Region')) or 'none'}.",
    }
    kind = {409: ConflictError, 412: ConflictError, 501: UnsupportedError}.get(status, StoreError)
    return _error(case, place, str(status) if name in ("", str(status)) else f"{status} {name}", known.get(case, ""), kind)


def _error(case: _Case, place: str, detail: str, known: str = "", kind: type[StoreError] = StoreError) -> StoreError:
    return kind(case.code, f"{place}: {case.message} ({detail}).{known} {case.advice}", transient=case.transient)


def _plain(text: str | None) -> str:
    """A name from the server's answer; "" if it is no mere name."""
    return text if text and re.fullmatch(r"[A-Za-z0-9._-]{1,40}", text) else ""
