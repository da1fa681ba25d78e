"""Faults that a test asks for: answers that fail, are slow, or are for nobody."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OWN_ROUTES = "/sandbox/"


@dataclass
class Faults:
    """What is to go wrong in requests to Compute and Auth; the sandbox's own routes always work.

    Attributes:
        failures: the next so many requests fail.
        status: with this HTTP status.
        path: only requests whose path ends so; "" means any.
        slow_seconds: every request waits this long.
        requests: the last requests, newest last: seconds since the epoch, method, path, status.
    """

    failures: int = 0
    status: int = 503
    path: str = ""
    slow_seconds: float = 0.0
    requests: deque[tuple[float, str, str, int]] = field(default_factory=lambda: deque(maxlen=5000))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take_failure(self, path: str) -> bool:
        """Whether the present request, which is for ``path``, is one that fails."""
        with self._lock:
            if self.failures <= 0 or not path.endswith(self.path):
                return False
            self.failures -= 1
            return True


@dataclass(frozen=True)
class FaultyApp:
    """An ASGI application with faults in front of it."""

    app: App
    faults: Faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(OWN_ROUTES):
            await self.app(scope, receive, send)
            return

        async def watch(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                entry = (time.time(), scope["method"], scope["path"], message["status"])
                self.faults.requests.append(entry)
            await send(message)

        if self.faults.slow_seconds > 0:
            await asyncio.sleep(self.faults.slow_seconds)
        if self.faults.take_failure(scope["path"]):
            await _answer(watch, self.faults.status)
            return
        await self.app(scope, receive, watch)


async def _answer(send: Send, status: int) -> None:
    body = json.dumps({"code": "SANDBOX_FAULT", "message": f"A fault was asked for: {status}."}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
