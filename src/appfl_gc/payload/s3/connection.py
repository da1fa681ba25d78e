"""One connection to an HTTP server. Another thread can break it at once, also while it waits."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from appfl_gc.payload.retry import PassingError
from appfl_gc.payload.s3.environment import Proxy, proxy_for, tls_context
from appfl_gc.payload.s3.refusals import no_connection
from appfl_gc.protocol.errors import TransferError

SLICE = 1 << 18
"""Bytes that are sent at a time."""


@dataclass(frozen=True)
class Deadlines:
    """How long the other side may take.

    Attributes:
        connect: seconds until a connection stands.
        silence: seconds without a byte.
        slowest: bytes a second, below which a request counts as failed after ``silence`` seconds.
    """

    connect: float = 15.0
    silence: float = 60.0
    slowest: float = 32_768.0

    def seconds(self, size: int) -> float:
        """What a request with a body of ``size`` bytes may take in all."""
        return self.connect + self.silence + size / self.slowest


@dataclass(frozen=True)
class Request:
    """What to ask for.

    Attributes:
        method: ``GET`` or ``PUT``.
        url: signed: it gives access to whoever has it, so it is in no error and no log.
        headers: beside ``Content-Length``.
        body: bytes to send, in order.
    """

    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict)
    body: Sequence[memoryview] = field(default=(), repr=False)

    @property
    def host(self) -> str:
        """Of the store; it may stand in errors."""
        return urlsplit(self.url).hostname or "?"


class Connection:
    """Sends requests one after another, through the environment's proxy if there is one. Kept open meanwhile.

    Args:
        deadlines: of every request.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._lock = threading.Lock()
        self._open: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._place = ""
        self._proxy: Proxy | None = None
        self._tls: ssl.SSLContext | None = None
        self._connecting = False
        self._late = False
        self._ended = False
        self._expires = float("inf")

    @contextlib.contextmanager
    def exchange(
        self, request: Request, sent: Callable[[int], None], expected: int = 0
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to ``request``; its body can be read in the block.

        Args:
            request: what to send.
            sent: hears of each slice of the body that is out: its bytes.
            expected: bytes of the answer's body, for the deadline.

        Raises:
            PassingError: if the connection can't be made, breaks (also in the block), or is too slow.
            TransferError: if it can't be made, and trying again is no use.
        """
        size = sum(len(part) for part in request.body)
        url = urlsplit(request.url)
        with self._lock:
            self._expires = time.monotonic() + self._deadlines.seconds(size + expected)
            self._late = False
        answer = None
        try:
            answer = self._ask(request, url, size, sent)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise self._why(error, request.host) from None
        finally:
            with self._lock:
                self._expires = float("inf")
            # A connection is used again only after a whole answer.
            if answer is None or not answer.isclosed() or answer.will_close:
                self.close()

    @property
    def connecting(self) -> bool:
        """Whether a connection is being made just now."""
        return self._connecting

    def break_off(self, now: float) -> None:
        """From another thread: break the request under way if its time is up at ``now`` (monotonic seconds)."""
        with self._lock:
            if now >= self._expires:
                self._late = True
                self._shut()

    def end(self) -> None:
        """From another thread: break the request under way, and allow no other."""
        with self._lock:
            self._ended = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not the method of TLS sockets: that one first takes the encryption away.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close; the next request opens anew."""
        with self._lock:
            connection, self._open, self._socket = self._open, None, None
        if connection is not None:
            connection.close()

    def _ask(
        self, request: Request, url: SplitResult, size: int, sent: Callable[[int], None]
    ) -> http.client.HTTPResponse:
        connection = self._connected(url)
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        headers = dict(request.headers)
        if self._proxy is not None and url.scheme == "http":
            target = f"http://{url.netloc}{target}"
            headers.update(self._proxy.headers)
        connection.putrequest(request.method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if request.method == "PUT":
            connection.putheader("Content-Length", str(size))
        try:
            connection.endheaders()
            for part in request.body:
                for start in range(0, len(part), SLICE):
                    piece = part[start : start + SLICE]
                    connection.send(piece)
                    sent(len(piece))
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses says so before it has read everything, and closes.
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = connection.getresponse()
                if answer.status >= 300:
                    return answer
            raise
        return connection.getresponse()

    def _connected(self, url: SplitResult) -> http.client.HTTPConnection:
        place = f"{url.scheme}://{url.netloc}"
        if self._open is not None and self._place == place:
            return self._open
        self.close()
        proxy = self._proxy = proxy_for(url)
        host, port = url.hostname or "", url.port
        first, first_port = (host, port) if proxy is None else (proxy.host, proxy.port)
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            self._tls = self._tls or tls_context()
            connection = http.client.HTTPSConnection(
                first, first_port, timeout=self._deadlines.connect, context=self._tls
            )
            if proxy is not None:
                connection.set_tunnel(host, port, proxy.headers)
        else:
            connection = http.client.HTTPConnection(first, first_port, timeout=self._deadlines.connect)
        self._connecting = True
        try:
            connection.connect()
            connection.sock.settimeout(self._deadlines.silence)
            with self._lock:
                if self._ended:
                    connection.close()
                    raise ConnectionAbortedError
                self._open, self._socket, self._place = connection, connection.sock, place
        finally:
            self._connecting = False
        return connection

    def _why(self, error: Exception, host: str) -> TransferError:
        if self._late:
            return PassingError(
                f"The store at {host} was too slow: fewer than {self._deadlines.slowest:,.0f} bytes a second."
            )
        if isinstance(error, TimeoutError):
            return PassingError(f"The store at {host} did not answer in time.")
        return no_connection(error, host)
