"""The proxy that makes http://localhost:5000 the sandbox, and forwards everything else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx

from appfl_gc.sandbox.sandbox import Sandbox


class _Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        secret = self.headers.get("proxy-authorization", "none").encode()
        self.send_response(201)
        self.end_headers()
        self.wfile.write(self.path.encode() + b" " + body + b" " + secret)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo(port: int = 0) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", port), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_localhost_5000_is_the_service_whoever_has_that_port(sandbox: Sandbox) -> None:
    with _port_5000(), httpx.Client(proxy=sandbox.description.proxy, trust_env=False) as client:
        assert client.get("http://localhost:5000/v2/version").json()["api"] == "appfl-gc sandbox"


def test_other_servers_are_reached_through_it_by_the_owner_only(sandbox: Sandbox) -> None:
    with echo() as port:
        url = f"http://localhost:{port}/path?query=1"
        with httpx.Client(proxy=sandbox.description.proxy, trust_env=False) as client:
            answer = client.post(url, content=b"body")
        assert (answer.status_code, answer.text) == (201, "/path?query=1 body none")
        with httpx.Client(proxy=sandbox.description.url, trust_env=False) as client:
            assert client.post(url, content=b"body").status_code == 407


def test_a_server_that_is_not_there_is_a_502(sandbox: Sandbox) -> None:
    with httpx.Client(proxy=sandbox.description.proxy, trust_env=False) as client:
        assert client.get("http://localhost:1/").status_code == 502


@contextmanager
def _port_5000() -> Iterator[None]:
    """Something that is not the sandbox listens on port 5000: a server of ours, or whatever is there already."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(echo(5000))
        yield
