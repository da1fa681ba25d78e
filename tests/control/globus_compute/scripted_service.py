"""A service that answers what a test says: for refusals that no real service can be brought to give."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
AUTH_SCOPES = "openid urn:globus:auth:scope:auth.globus.org:manage_projects"


@dataclass(frozen=True)
class Answer:
    """One answer: status, JSON body, headers."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class ScriptedService:
    """Stands for Globus Auth and Globus Compute, and for the proxy on the way to both."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, Mapping[str, str], str]] = field(default_factory=list)
    tokens: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What points the SDK here."""
        return {
            "GLOBUS_SDK_ENVIRONMENT": "local",
            "GLOBUS_SDK_SERVICE_URL_AUTH": f"http://127.0.0.1:{self.port}/",
            "HTTP_PROXY": f"http://127.0.0.1:{self.port}",
            "http_proxy": f"http://127.0.0.1:{self.port}",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def answer(self, method: str, path: str, body: str) -> Answer:
        """The scripted answer; tokens for whoever asks for them."""
        if scripted := self.answers.get(f"{method} {path}"):
            return scripted
        if path == "/v2/oauth2/token":
            self.tokens += 1
            return Answer(200, self._tokens(body))
        return Answer(404, {"code": "NOT_SCRIPTED", "message": f"{method} {path}"})

    def _tokens(self, body: str) -> dict[str, Any]:
        def token(server: str, scope: str) -> dict[str, Any]:
            return {
                "access_token": f"token-{self.tokens}-{server}",
                "scope": scope,
                "expires_in": 172800,
                "token_type": "Bearer",
                "resource_server": server,
            }

        compute, auth = token("funcx_service", COMPUTE_SCOPE), token("auth.globus.org", AUTH_SCOPES)
        if "facd7ccc" not in body:
            return {**auth, "other_tokens": []}
        return {**compute, "other_tokens": [auth] if "openid" in body else []}


@contextmanager
def scripted_service() -> Iterator[ScriptedService]:
    """Run one on a free port of the loopback interface."""
    service = ScriptedService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            path = urlsplit(self.path).path
            service.requests.append((f"{self.command} {path}", dict(self.headers), body))
            answer = service.answer(self.command, path, body)
            data = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
