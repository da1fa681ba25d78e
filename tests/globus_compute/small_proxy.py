"""A forward proxy for plain HTTP, as sites have them: it asks for a password and keeps what passed."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "proxy-authorization", "proxy-connection", "keep-alive", "transfer-encoding"}


@dataclass
class SmallProxy:
    """Attributes:
    url: with user and password, for HTTP_PROXY.
    passed: ``METHOD URL`` of every request.
    """

    url: str
    passed: list[str] = field(default_factory=list)


@contextmanager
def small_proxy(upstream: str, password: str) -> Iterator[SmallProxy]:
    """Run one that sends everything on to the proxy ``upstream``."""
    above = urlsplit(upstream)
    proxy = SmallProxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Proxy-Authorization") != _basic("user", password):
                self._answer(407, {"Proxy-Authenticate": "Basic"}, b"")
                return
            proxy.passed.append(f"{self.command} {self.path}")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            if above.username:
                headers["Proxy-Authorization"] = _basic(above.username, above.password or "")
            connection = HTTPConnection(above.hostname or "", above.port, timeout=30)
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                connection.close()

        do_GET = do_POST = do_PUT = do_DELETE = _forward

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in HOP_BY_HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://user:{password}@127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
