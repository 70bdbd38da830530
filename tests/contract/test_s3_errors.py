"""What the user hears when an S3 server refuses or cannot be reached: the place, the reason, the next step, the exit code; never a secret.

The server is SeaweedFS.  Where it has no such failure (regions, roles), the proxy in front of it answers as AWS documents.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import pytest

from job.core.exits import Exit
from job.storage.errors import NotFound, StoreError
from job.storage.opening import open_store
from job.storage.store import Store
from tests.support.certificate import private_certificate
from tests.support.proxy import Error, Fault, Proxy, Request
from tests.support.servers import Server

TOKEN = "T0ken-that-nobody-must-see"
ACTIONS: dict[str, Callable[[Store], Any]] = {
    "put": lambda store: store.put("run/object", b"x"),
    "create": lambda store: store.put_if_absent("run/object", b"x"),
    "get": lambda store: store.get("run/object"),
    "list": lambda store: store.list("run/"),
}
Told = Callable[..., StoreError]


@pytest.fixture
def told(
    weed: Server, place: str, set_environment: Callable[[Mapping[str, str]], None], caplog: pytest.LogCaptureFixture
) -> Iterator[Told]:
    """`told(variables, action, url)` is the error of a failing action.  No secret is in it, nor in what led to it, nor in any log line."""
    secrets = [weed.key, weed.secret, weed.reader_key, weed.reader_secret, TOKEN, "Signature=", "AWS4-HMAC"]

    def fail(variables: Mapping[str, str | None], action: str | Callable[[Store], Any] = "put", url: str = place) -> StoreError:
        set_environment({name: value for name, value in (weed.environment | dict(variables)).items() if value is not None})
        with caplog.at_level("DEBUG"), pytest.raises(StoreError) as caught:
            (ACTIONS[action] if isinstance(action, str) else action)(open_store(url))
        assert caught.value.__context__ is None  # boto3's exceptions hold the server's answer and the request
        for text in [*chain(caught.value), caplog.text]:
            assert not any(secret in text for secret in secrets)
        return caught.value

    return fail


def chain(error: BaseException | None) -> list[str]:
    """Everything that the exception and those behind it hold."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return texts


def final(error: StoreError, *words: str) -> None:
    assert (error.code, error.transient) == (Exit.CONFIGURATION, False), error
    assert all(word in str(error) for word in words), error


def passing(error: StoreError, *words: str) -> None:
    assert (error.code, error.transient) == (Exit.UNREACHABLE, True), error
    assert all(word in str(error) for word in words), error


@pytest.mark.parametrize("action", ACTIONS)
def test_wrong_secret(told: Told, weed: Server, place: str, action: str) -> None:
    error = told({"AWS_SECRET_ACCESS_KEY": "another-secret"}, action)
    final(error, place, weed.endpoint, "the secret does not belong", "AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize("action", ACTIONS)
def test_unknown_key(told: Told, weed: Server, place: str, action: str) -> None:
    final(told({"AWS_ACCESS_KEY_ID": "AKUNKNOWN"}, action), place, weed.endpoint, "does not know this access key id", "AWS_ACCESS_KEY_ID")


def test_a_token_that_the_store_does_not_know(told: Told, place: str) -> None:
    final(told({"AWS_ACCESS_KEY_ID": "AKUNKNOWN", "AWS_SESSION_TOKEN": TOKEN}), place)


@pytest.mark.parametrize("action", ACTIONS)
def test_missing_bucket(told: Told, weed: Server, action: str) -> None:
    error = told({}, action, url="s3://no-such-bucket/prefix")
    final(error, "s3://no-such-bucket/prefix", weed.endpoint, "the bucket does not exist (404", "Create it")


def test_no_credentials(told: Told, place: str) -> None:
    final(told({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}), place, "no credentials", "AWS_PROFILE")


def test_someone_who_may_only_read(told: Told, weed: Server, place: str, set_environment: Callable[[Mapping[str, str]], None]) -> None:
    set_environment(weed.environment)
    open_store(place).put("run/object", b"x")
    reader = weed.reader_environment
    writes: list[Callable[[Store], Any]] = [
        ACTIONS["put"],
        lambda store: store.put_if_absent("run/new", b"x"),
        lambda store: store.delete("run/object"),
        lambda store: store.conditional,
    ]
    for action in writes:
        final(told(reader, action), place, weed.endpoint, "access denied (403", "right to list, read, write and delete")
    set_environment(reader)
    assert open_store(place).get("run/object") == b"x"
    assert [e.key for e in open_store(place).list()] == ["run/object"]


@pytest.mark.parametrize("action", ACTIONS)
def test_unreachable(told: Told, place: str, action: str) -> None:
    error = told({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, action)
    passing(error, place, "http://127.0.0.1:9", "no connection", "AWS_ENDPOINT_URL_S3")


def test_a_name_that_does_not_resolve(told: Told) -> None:
    passing(told({"AWS_ENDPOINT_URL_S3": "http://storage.invalid:9000"}), "storage.invalid:9000", "the host name is unknown", "DNS")


@pytest.mark.parametrize("host", ["127.0.0.1", "proxy.invalid"])
def test_a_proxy_that_is_not_there(told: Told, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{TOKEN}@{host}:9")
    passing(told({"AWS_ENDPOINT_URL_S3": "http://storage.invalid:9000", "NO_PROXY": ""}), "the proxy does not answer", "HTTP_PROXY")


def test_https_to_a_server_without_tls(told: Told, weed: Server) -> None:
    final(told({"AWS_ENDPOINT_URL_S3": weed.endpoint.replace("http", "https")}), "https://", "does not speak TLS", "Write http://")


def test_http_to_a_server_with_tls(told: Told, weed: Server, certificate: Path) -> None:
    with Proxy(weed, certificate=certificate) as tls:  # closes the connection, as OpenSSL does
        passing(told({"AWS_ENDPOINT_URL_S3": tls.endpoint.replace("https", "http")}), "no connection", "http or https")
    with Proxy(weed, decide=lambda _: Error(status=400)) as go:  # says so, as servers written in Go do
        final(told({"AWS_ENDPOINT_URL_S3": go.endpoint}), "did not understand (400)", "write https://")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_certificate(tmp_path_factory.mktemp("tls"))


def test_a_private_authority(
    told: Told, weed: Server, place: str, certificate: Path, set_environment: Callable[[Mapping[str, str]], None]
) -> None:
    with Proxy(weed, certificate=certificate) as tls:
        final(told(tls.environment | {"AWS_MAX_ATTEMPTS": "6"}), tls.endpoint, "certificate is not trusted", "AWS_CA_BUNDLE")
        assert tls.connections == 1  # trying again would not help
        wrong_name = tls.endpoint.replace("127.0.0.1", "localhost")
        final(told({"AWS_ENDPOINT_URL_S3": wrong_name, "AWS_CA_BUNDLE": str(certificate)}), "not trusted", "check the host name")
        for bundle in ("/no/such/file", __file__):
            final(told(tls.environment | {"AWS_CA_BUNDLE": bundle}), "there are no certificates", "AWS_CA_BUNDLE")
        set_environment(tls.environment | {"AWS_CA_BUNDLE": str(certificate)})
        store = open_store(place)
        store.put("object", b"x")
        assert store.get("object") == b"x"


def test_clock_skew(told: Told, weed: Server, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a, **k: now(*a, **k) + timedelta(hours=1))
    for action in ACTIONS:
        error = told({}, action)
        assert (error.code, error.transient) == (Exit.DEVICE, False), "another node's clock may be right"
        words = place, weed.endpoint, "clocks differ", "This machine's clock says", " GMT, the server's ", "NTP"
        assert all(word in str(error) for word in words), error


def test_wrong_region(told: Told, weed: Server, place: str, set_environment: Callable[[Mapping[str, str]], None]) -> None:
    def decide(request: Request) -> Fault | None:
        signed_for = request.headers["Authorization"].split("/")[2]
        return None if signed_for == "eu-central-1" else Error(status=400, code="AuthorizationHeaderMalformed", region=named)

    with Proxy(weed, decide=decide) as proxy:
        named = ""
        final(told(proxy.environment), place, "another region", "The server names none", "AWS_REGION")
        named = "eu-central-1"
        set_environment(proxy.environment)
        open_store(place).put("object", b"x")  # boto3 signs again for the region that the server names
        set_environment(proxy.environment | {"AWS_REGION": "eu-central-1"})
        assert open_store(place).get("object") == b"x"
        proxy.decide = lambda _: Error(status=301, code="PermanentRedirect", region="eu-west-3")
        final(told(proxy.environment), "another region (301 PermanentRedirect)", "The server names eu-west-3", "AWS_REGION")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "ExpiredToken", "expired"),
        (403, "InvalidTokenId", "access denied"),
        (403, "", "access denied"),
        (405, "MethodNotAllowed", "refused"),
        (501, "NotImplemented", "Use another S3 server"),
    ],
)
def test_refusals_are_final(told: Told, weed: Server, status: int, code: str, words: str) -> None:
    with Proxy(weed, decide=lambda _: Error(status=status, code=code)) as proxy:
        final(told(proxy.environment), proxy.endpoint, f"({status}", code, words)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (500, "InternalError", "failed or is overloaded"),
        (503, "SlowDown", "overloaded"),
        (503, "", "overloaded"),
        (502, "", "overloaded"),
        (404, "", "not that of an S3 server"),
        (400, "IncompleteBody", "damaged"),
        (409, "OperationAborted", "another writer"),
    ],
)
def test_what_may_pass(told: Told, weed: Server, status: int, code: str, words: str) -> None:
    """A 404 that an ingress gives while the server behind it is away must not read as "there is no such object"."""
    with Proxy(weed, decide=lambda _: Error(status=status, code=code)) as proxy:
        for action in ("put",) if code == "SlowDown" else ("put", "get", "list"):  # boto3 waits longer after a SlowDown
            passing(told(proxy.environment, action), proxy.endpoint, f"({status}", code, words)


def test_a_full_store(told: Told, weed: Server) -> None:
    with Proxy(weed, decide=lambda _: Error(status=507, code="XMinioStorageFull")) as proxy:
        error = told(proxy.environment)
    assert (error.code, error.transient) == (Exit.NOT_STORED, True)
    assert "Free some room" in str(error)


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchUpload"])
def test_only_a_store_that_says_so_has_no_such_object(
    weed: Server, place: str, set_environment: Callable[[Mapping[str, str]], None], told: Told, code: str
) -> None:
    with Proxy(weed, decide=lambda _: Error(status=404, code=code)) as proxy:
        if code == "NoSuchKey":
            set_environment(proxy.environment)
            with pytest.raises(NotFound, match=place):
                open_store(place).get("object")
        else:
            passing(told(proxy.environment, "get"), "vanished")


def test_a_web_identity_whose_role_is_refused(told: Told, weed: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with Proxy(weed, decide=lambda _: Error(status=403, code="AccessDenied")) as sts:
        identity = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/trainer"}
        no_keys = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
        error = told({**identity, **no_keys, "AWS_ENDPOINT_URL_STS": sts.endpoint})
        assert TOKEN.encode() in sts.requests[0].body  # boto3 has read the variables
    final(error, "the role was refused", "AWS_ROLE_ARN")


@pytest.mark.parametrize(
    "variables",
    [{"AWS_PROFILE": "no-such-profile"}, {"AWS_ENDPOINT_URL_S3": "minio:9000"}, {"AWS_CA_BUNDLE": " "}, {"AWS_REGION": "not a region"}],
)
def test_settings_that_boto3_cannot_use(told: Told, variables: dict[str, str]) -> None:
    final(told(variables), "AWS", next(iter(variables)).removesuffix("_S3"))


def test_profile_files(weed: Server, place: str, tmp_path: Path, set_environment: Callable[[Mapping[str, str]], None]) -> None:
    with Proxy(weed) as proxy:
        (tmp_path / "config").write_text(f"[profile team]\nregion = eu-north-1\nendpoint_url = {proxy.endpoint}\n")
        (tmp_path / "credentials").write_text(f"[team]\naws_access_key_id = {weed.key}\naws_secret_access_key = {weed.secret}\n")
        files = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
        set_environment({"AWS_PROFILE": "team", **files})
        store = open_store(place)
        store.put("object", b"x")
        assert store.get("object") == b"x"
        assert all("/eu-north-1/s3/" in request.headers["Authorization"] for request in proxy.requests)
        assert proxy.requests[0].path == f"/{place.removeprefix('s3://')}/object"  # path style


def test_credentials_are_read_again(weed: Server, place: str, tmp_path: Path, set_environment: Callable[[Mapping[str, str]], None]) -> None:
    """A session's file changes while the store is in use, before a request and after a refusal."""

    def write(key: str) -> None:
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {weed.secret}\n")

    def decide(request: Request) -> Fault | None:
        return None if f"Credential={weed.key}/" in request.headers["Authorization"] else Error(status=400, code="ExpiredToken")

    with Proxy(weed, decide=decide) as proxy:
        write("AKOLD")
        no_keys = {n: v for n, v in proxy.environment.items() if n not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        set_environment(no_keys | {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")})
        store = open_store(place)
        with pytest.raises(StoreError, match="expired"):
            store.put("object", b"x")
        write(weed.key)
        store.put("object", b"x")
        assert store.get("object") == b"x"
        refused = [request for request in proxy.requests if decide(request)]
        assert len(refused) == 2, "the second one was asked again in the same call"


DEBUG = """
import logging, sys, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from job.storage.opening import open_store
store = open_store(sys.argv[1])
logging.getLogger("test").debug("debug lines are on")
for action in (lambda: store.put("a", b"x"), lambda: store.get("a"), lambda: store.list(), lambda: store.put_if_absent("a", b"y")):
    try:
        print(action())
    except Exception:
        traceback.print_exc(file=sys.stdout)
"""


@pytest.mark.parametrize("secret", ["right", "wrong"])
def test_no_secret_in_debug_lines(weed: Server, place: str, secret: str) -> None:
    """Of a whole process, whose program has turned on debug lines for everything.

    If it did so for `botocore` by name, after the store was opened, signatures and tokens would be shown; this project never does.
    """
    variables = weed.environment | {"AWS_SESSION_TOKEN": TOKEN} if secret == "wrong" else weed.environment
    variables = variables | ({"AWS_SECRET_ACCESS_KEY": "an0ther-secret"} if secret == "wrong" else {})
    result = subprocess.run(
        [sys.executable, "-c", DEBUG, place], env=dict(variables), capture_output=True, text=True, check=False, timeout=60
    )
    shown = result.stdout + result.stderr
    assert "debug lines are on" in shown
    assert ("Traceback" in shown) == (secret == "wrong"), shown
    for word in (weed.key, weed.secret, "an0ther-secret", TOKEN, "Signature=", "AWS4-HMAC", "X-Amz-"):
        assert word not in shown
