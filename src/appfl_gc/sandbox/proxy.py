"""The SDK's "local" service is http://localhost:5000, whoever has that port: this side of an HTTP proxy is it."""

from __future__ import annotations

import base64
import hmac
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from appfl_gc.sandbox.faults import App, Receive, Scope, Send

SERVICE = ("localhost", 5000)
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Proxy:
    """An ASGI application that takes a proxy's requests: for the service to ``app``, for others onwards.

    Attributes:
        password: what others' requests need, so that only the sandbox's owner is forwarded.
        upstream: the proxy that was in use before, for plain http; ``None``: straight to the server.
    """

    app: App
    password: str
    upstream: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith("/"):
            await self.app(scope, receive, send)
            return
        target = urlsplit(scope["path"])
        if (target.hostname, target.port) == SERVICE:
            path = target.path or "/"
            await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, send)
        elif target.scheme != "http" or not self._authorized(scope):
            await _answer(send, 407, b"This proxy serves the owner of the sandbox only.")
        else:
            await self._forward(scope, receive, send)

    def _authorized(self, scope: Scope) -> bool:
        expected = b"Basic " + base64.b64encode(f"sandbox:{self.password}".encode())
        given = dict(scope["headers"]).get(b"proxy-authorization", b"")
        return hmac.compare_digest(given, expected)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        url = scope["path"] + (f"?{query}" if query else "")
        headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP]
        try:
            async with (
                httpx.AsyncClient(proxy=self.upstream, trust_env=False, timeout=60) as client,
                client.stream(scope["method"], url, headers=headers, content=_body(receive)) as response,
            ):
                kept = [(name.lower(), value) for name, value in response.headers.raw]
                kept = [(name, value) for name, value in kept if name not in HOP_BY_HOP]
                await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except httpx.HTTPError as error:
            await _answer(send, 502, f"The server can't be reached: {type(error).__name__}.".encode())


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message: MutableMapping[str, object] = await receive()
        body = message.get("body", b"")
        if isinstance(body, bytes) and body:
            yield body
        more = bool(message.get("more_body"))


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
