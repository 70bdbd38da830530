"""A real HTTP proxy that makes trouble between a client and an S3 server, by a seeded schedule or as a test says.

    with weed() as server, Proxy(server, seed=1, errors=0.1, resets=0.05, delays=(0.05, 3.0), truncations=0.02, lost_replies=0.02) as proxy:
        run(env=proxy.environment)
    print(proxy.counts)

Signatures stay valid, because the `Host` header is passed on as the client wrote it.  Requests and answers are held in memory whole.
"""

import random
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.support.servers import Server

HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "content-length")
"""headers between two neighbours, which a proxy writes itself"""
WRITES = ("PUT", "POST", "DELETE")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the client asked for."""

    number: int
    """from 0, in order of arrival"""
    method: str
    path: str
    """with the query"""
    headers: HTTPMessage
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Error:
    """Answer in place of the server, as S3 does when something is wrong."""

    status: int
    code: str = ""
    """without one, the body is no XML"""
    region: str = ""
    """that the answer names as the bucket's"""

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Content-Type", "application/xml"), *([("x-amz-bucket-region", self.region)] if self.region else [])]

    @property
    def body(self) -> bytes:
        region = f"<Region>{self.region}</Region>" if self.region else ""
        xml = f"<Error><Code>{self.code}</Code><Message>made by the proxy</Message>{region}<RequestId>1</RequestId></Error>"
        return (xml if self.code else "<html>no S3 server</html>").encode()


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Reset the connection before the server hears of the request."""


@dataclass(frozen=True, kw_only=True)
class Delay:
    """Wait before the request is passed on."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """Send the first bytes of the answer, headers included, then close: a share, or that many bytes."""

    share: float = 0.5
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class LostReply:
    """Have the server do it, then reset the connection without an answer."""


Fault = Error | Reset | Delay | Truncation | LostReply


class Proxy:
    """In front of `server`; `endpoint` takes its place.  At most one fault for each request.

    `errors`: share answered with 500 InternalError, 503 SlowDown or 503 without XML; `resets`: share; `delays`: (share, seconds);
    `truncations`: share; `lost_replies`: share of writes (PUT, POST, DELETE).  The n-th request to arrive meets the same fault for the same
    seed.  `decide` replaces the schedule: it gets the Request and returns the Fault, or None.  `certificate`: a PEM file with key and
    certificate; the proxy then speaks TLS.  `counts` tells what was done, `requests` what was asked, `connections` how many were made.
    """

    def __init__(
        self,
        server: Server,
        *,
        seed: int = 0,
        errors: float = 0.0,
        resets: float = 0.0,
        delays: tuple[float, float] = (0.0, 0.0),
        truncations: float = 0.0,
        lost_replies: float = 0.0,
        decide: Callable[[Request], Fault | None] | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.server, self.seed = server, seed
        self._shares = {"error": errors, "reset": resets, "delay": delays[0], "truncation": truncations, "lost reply": lost_replies}
        self._seconds = delays[1]
        self.decide = decide or self._drawn
        self.counts: Counter[str] = Counter()
        """requests by the fault they met; "none" for the others"""
        self.requests: list[Request] = []
        self.connections = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._listener = _Listener(("127.0.0.1", 0), _Handler, bind_and_activate=True)
        self._listener.proxy = self
        self._scheme = "http"
        if certificate:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._listener.socket = context.wrap_socket(self._listener.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._listener.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return self.server.environment | {"AWS_ENDPOINT_URL_S3": self.endpoint}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    def _drawn(self, request: Request) -> Fault | None:
        chance = random.Random(f"{self.seed}/{request.number}")
        at = chance.random()
        for name, share in self._shares.items():
            if at < share:
                return self._fault(name, chance, request)
            at -= share
        return None

    def _fault(self, name: str, chance: random.Random, request: Request) -> Fault | None:
        if name == "error":
            return chance.choice([Error(status=500, code="InternalError"), Error(status=503, code="SlowDown"), Error(status=503)])
        if name == "delay":
            return Delay(seconds=self._seconds)
        if name == "truncation":
            return Truncation(share=chance.random())
        if name == "lost reply":
            return LostReply() if request.method in WRITES else None
        return Reset()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: Proxy

    def process_request(self, request: Any, client_address: Any) -> None:
        self.proxy.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Without the polite end of the original, which would turn a reset into an orderly close."""
        self.close_request(request)

    def handle_error(self, *_: object) -> None:
        """Clients that go away, and TLS that does not come about, are what this proxy is for."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with proxy.lock:
            request = Request(number=len(proxy.requests), method=self.command, path=self.path, headers=self.headers, body=body)
            proxy.requests.append(request)
            fault = proxy.decide(request)
            proxy.counts[type(fault).__name__ if fault else "none"] += 1
        if isinstance(fault, Reset):
            return self._reset()
        if isinstance(fault, Delay):
            proxy.closing.wait(fault.seconds)
        if isinstance(fault, Error):
            answer = self._answer(fault.status, fault.headers, fault.body)
        else:
            try:
                answer = self._forward(request)
            except (OSError, HTTPException):  # the server is down
                return self._reset()
        if isinstance(fault, LostReply):
            return self._reset()
        if isinstance(fault, Truncation):
            answer = answer[: int(fault.share * len(answer)) if fault.length is None else fault.length]
            self.close_connection = True
        self.wfile.write(answer)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _forward(self, request: Request) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.server.proxy.server.ports[0], timeout=120)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in HOP:
                    connection.putheader(name, value)
            if request.body or request.method in WRITES:
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            return self._answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> bytes:
        """The bytes of a whole answer.  One to HEAD announces the length of a body that it does not have."""
        announced = next((value for name, value in headers if name.lower() == "content-length"), None)
        length = announced if self.command == "HEAD" else None if status == 204 else len(body)
        kept = [(name, value) for name, value in headers if name.lower() not in HOP]
        kept += [("Content-Length", str(length))] if length is not None else []
        head = f"HTTP/1.1 {status} {self.responses.get(status, ('Unknown',))[0]}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in kept) + "\r\n"
        return head.encode("latin-1") + (b"" if self.command == "HEAD" else body)

    def _reset(self) -> None:
        """Close so that the client's system says "connection reset by peer"."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
