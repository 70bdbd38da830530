"""The page of some runs on loopback, made anew when a browser asks for it."""

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from job.analysis.progress_page import write_page
from job.core.exits import Exit, JobError
from job.runs.snapshot import Observer

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")


class PageServer:
    """Serves `/` to browsers on this machine only.  `seconds`: between two readings of the runs."""

    def __init__(self, observers: Sequence[Observer], *, port: int, seconds: int) -> None:
        self._observers, self._seconds = observers, seconds
        self._lock = threading.Lock()
        self._page, self._made = b"", -float("inf")
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), self._handler())
        except OSError as error:
            raise JobError(
                Exit.USAGE, f"--port {port}: cannot be opened on {LOOPBACK} ({error.strerror}). Expected a free one; 0 takes any."
            ) from None
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}/"

    def run(self) -> None:
        """Until Ctrl-C."""
        with self._server:
            self._server.serve_forever()

    def close(self) -> None:
        """From another thread."""
        self._server.shutdown()

    def page(self) -> bytes:
        """At most `seconds` old.  Raises JobError."""
        with self._lock:
            if time.monotonic() - self._made > self._seconds:
                with TemporaryDirectory() as folder:
                    path = Path(folder) / "page.html"
                    write_page(self._observers, path, refresh=self._seconds)
                    self._page, self._made = path.read_bytes(), time.monotonic()
            return self._page

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.headers.get("Host", "").rpartition(":")[0]
                if name not in HOSTS:  # another site's name that was made to point here
                    self.send_error(403)
                    return
                if self.path != "/":
                    self.send_error(404)
                    return
                try:
                    body, code = server.page(), 200
                except JobError as error:
                    body, code = f"{error}\n".encode(), 503
                self.send_response(code)
                self.send_header("Content-Type", "text/html; charset=utf-8" if code == 200 else "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """A line for each request would bury the address."""

        return Handler
