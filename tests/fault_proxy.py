"""An HTTP server that passes requests on to another one, and does to some of them what a network may do."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PIECE = 1 << 16


@dataclass
class Fault:
    """What happens to the requests that match, as long as ``times`` lasts.

    Attributes:
        kind: ``status`` answers ``status`` without passing on; ``cut`` resets the connection; ``stall`` lets nothing
            through until the proxy closes; ``slow`` passes ``rate`` bytes a second; ``alter`` changes one byte.
        where: ``up`` in the request's body, ``down`` in the answer's.
        after: bytes of that body that pass first.
        method: of the request; "" for any.
        matches: on the request's path with its query.
        times: how many requests it befalls.
        happened: how many it befell.
    """

    kind: str
    where: str = "up"
    after: int = 0
    method: str = ""
    matches: Callable[[str], bool] = lambda path: True
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    rate: float = 1e5
    happened: int = 0


class Broken(Exception):
    """The connection was broken on purpose."""


class FaultProxy:
    """Listens on loopback. ``url`` replaces the target's.

    Attributes:
        faults: in force now; the first that matches befalls a request.
        requests: method, path with query, and ``Range`` or "" of all requests so far.
        logins: headers ``Authorization`` of all requests so far.
        passed: bytes of request bodies that arrived.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str]] = []
        self.logins: list[str] = []
        self.passed = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request."""
        with self.lock:
            for fault in self.faults:
                if fault.happened < fault.times and fault.method in ("", method) and fault.matches(path):
                    fault.happened += 1
                    return fault
        return None

    def close(self) -> None:
        """Stop listening; requests that are held end."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy to ``target`` for the block."""
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is none of our business."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        proxy = self.proxy
        with proxy.lock:
            proxy.requests.append((self.command, self.path, self.headers.get("Range", "")))
            proxy.logins += self.headers.get_all("Authorization") or []
        fault = proxy.take(self.command, self.path)
        try:
            if fault is not None and fault.kind == "status":
                self._answer(fault)
            else:
                self._pass_on(fault)
        except (Broken, OSError, http.client.HTTPException):
            self.close_connection = True
            # Close with a reset, not politely.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _answer(self, fault: Fault) -> None:
        for _ in self._body(None):
            pass
        text = f"<Error><Code>{fault.code}</Code><Message>At {self.path}</Message></Error>".encode()
        self.send_response_only(fault.status)
        for name, value in {**fault.headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _pass_on(self, fault: Fault | None) -> None:
        target = self.proxy.target
        upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders()
            for piece in self._body(fault if fault and fault.where == "up" else None):
                upstream.send(piece)
            answer = upstream.getresponse()
            self._give(answer, fault if fault and fault.where == "down" else None)
        finally:
            upstream.close()

    def _body(self, fault: Fault | None) -> Iterator[bytes]:
        length = int(self.headers.get("Content-Length") or 0)
        done = 0
        while done < length:
            piece = self.rfile.read1(min(PIECE, length - done))
            if not piece:
                raise Broken
            with self.proxy.lock:
                self.proxy.passed += len(piece)
            yield self._suffer(fault, piece, done)
            done += len(piece)

    def _give(self, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        self.send_response_only(answer.status)
        length = answer.getheader("Content-Length")
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        if length is None:
            content = answer.read()
            length = str(len(content))
            pieces = iter([content])
        else:
            pieces = iter(lambda: answer.read1(PIECE), b"")
        self.send_header("Content-Length", length)
        self.end_headers()
        done = 0
        for piece in pieces:
            self.wfile.write(self._suffer(fault, piece, done))
            done += len(piece)

    def _suffer(self, fault: Fault | None, piece: bytes, done: int) -> bytes:
        if fault is None or done + len(piece) <= fault.after:
            return piece
        if fault.kind == "cut":
            raise Broken
        if fault.kind == "stall":
            self.proxy.closing.wait()
            raise Broken
        if fault.kind == "slow":
            time.sleep(len(piece) / fault.rate)
        if fault.kind == "alter" and done <= fault.after:
            at = fault.after - done
            return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        return piece
