"""HTTP to a nearby server, never through a proxy, in which every wait has a deadline and ends when asked to."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from appfl_gc.payload.proxystore.endpoint.watch import (
    BrokenError,
    ForeignError,
    LateError,
    TooLongError,
    Watch,
)

CONNECT_SECONDS = 5.0
KEPT_SECONDS = 900.0

_SLICE = 1 << 20
_ERROR_TEXT = 2000


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status: the HTTP status.
        size: bytes of the body.
        text: the body of an error, shortened; "" otherwise.
    """

    status: int
    size: int
    text: str = ""


def request(
    host: str,
    port: int,
    method: str,
    path: str,
    query: Mapping[str, str],
    watch: Watch,
    *,
    body: memoryview | None = None,
    into: memoryview | None = None,
    keep: bool = False,
) -> Answer:
    """One request over a connection of its own.

    Args:
        host: name or address of the server.
        port: where it listens.
        method: ``GET`` or ``POST``.
        path: of the resource.
        query: what follows the question mark.
        watch: until when.
        body: bytes to send.
        into: where the body of an answer 200 goes.
        keep: see ``leave``.

    Raises:
        StoppedError, LateError, BrokenError, TooLongError, ForeignError: as they say. So does what ``watch`` raises.
    """
    connection = _Connection(host, port, watch)
    waiting = False
    try:
        connection.putrequest(method, f"{path}?{urlencode(query)}" if query else path)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(0 if body is None else body.nbytes))
        connection.putheader("Connection", "close")
        connection.endheaders()
        if body is not None:
            connection.sock.sendall(body)
        waiting = keep
        response = connection.getresponse()
        waiting = False
        if response.status != 200 or into is None:
            text = response.read(_ERROR_TEXT)
            return Answer(response.status, len(text), text.decode("utf-8", "replace"))
        return Answer(200, _read(response, into))
    except http.client.RemoteDisconnected:
        raise BrokenError("it closed the connection without an answer") from None
    except http.client.IncompleteRead:
        raise BrokenError("the connection ended in the middle of the answer") from None
    except http.client.HTTPException as error:
        raise ForeignError(f"its answer is not HTTP ({type(error).__name__})") from None
    except OSError as error:
        raise BrokenError(error.strerror or str(error)) from None
    finally:
        connection.close()
        connection.hang_up(kept=waiting)


def _read(response: http.client.HTTPResponse, into: memoryview) -> int:
    done = 0
    while done < into.nbytes:
        count = response.readinto(into[done:])
        if not count:
            return done
        done += count
    if response.read(1):
        raise TooLongError
    return done


def leave(sock: socket.socket) -> None:
    """Have a small process of its own wait for an answer that nobody wants any more, and forget it.

    ProxyStore 1.1 ends an endpoint, with all that it holds, when a peer's answer arrives and the client that asked has
    hung up. The process outlives this one, which may be about to end, and waits for ``KEPT_SECONDS`` at most.
    """
    command = f"exec 3<&0; timeout {KEPT_SECONDS:.0f} cat <&3 >/dev/null 2>&1 &"
    sock.setblocking(True)
    with contextlib.suppress(OSError):
        subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=sock.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.defpath},
            check=False,
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, watch: Watch) -> None:
        super().__init__(host, port)
        self._watch = watch
        self._socket: socket.socket | None = None
        self.sock: Any = None

    def hang_up(self, *, kept: bool) -> None:
        """Close the connection itself, or our side of it if it is to be kept until its answer comes."""
        if self._socket is not None:
            if kept:
                leave(self._socket)
            self._socket.close()

    def connect(self) -> None:
        until = time.monotonic() + CONNECT_SECONDS
        trouble = OSError("it has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                _connected(sock, address, self._watch, until)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                trouble = error
            except BaseException:
                sock.close()
                raise
            else:
                self._socket = sock
                self.sock = _Patient(sock, self._watch)
                return
        raise trouble


def _connected(sock: socket.socket, address: Any, watch: Watch, until: float) -> None:
    try:
        sock.connect(address)
    except BlockingIOError:
        try:
            watch.wait(sock, write=True, until=until)
        except LateError:
            raise OSError(f"no answer to a connection within {CONNECT_SECONDS:.0f} s") from None
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number)) from None


class _Patient:
    """As much of a socket as ``http.client`` uses."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._sock = sock
        self._watch = watch

    def sendall(self, data: bytes | memoryview) -> None:
        left = memoryview(data).cast("B")
        while left:
            self._watch.wait(self._sock, write=True)
            try:
                left = left[self._sock.send(left[:_SLICE]) :]
            except BlockingIOError:
                continue

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self._sock, self._watch), 1 << 16)

    def close(self) -> None:
        """``http.client`` calls this while it still reads from ``makefile``; the connection's owner closes."""


class _Raw(io.RawIOBase):
    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        super().__init__()
        self._sock = sock
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self._watch.wait(self._sock, write=False)
            try:
                return self._sock.recv_into(buffer)
            except BlockingIOError:
                continue
