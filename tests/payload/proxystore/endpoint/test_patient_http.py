"""Every wait of a request ends: by its deadline, by the stop event, or since the other side is gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from appfl_gc.payload.proxystore.endpoint.patient_http import Answer, request
from appfl_gc.payload.proxystore.endpoint.probe import Probe
from appfl_gc.payload.proxystore.endpoint.watch import (
    BrokenError,
    LateError,
    StoppedError,
    TooLongError,
    Watch,
)
from appfl_gc.payload.retry import PassingError
from appfl_gc.protocol.errors import TransferError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                handle(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


def until_closed(connection: socket.socket) -> float:
    while connection.recv(65536):
        pass
    return time.monotonic()


def get(port: int, seconds: float = 10.0, stop: threading.Event | None = None, **options: object) -> Answer:
    watch = Watch.of(seconds, stop or threading.Event())
    into = memoryview(bytearray(10))
    return request("127.0.0.1", port, "GET", "/x", {}, watch, into=into, **options)  # type: ignore[arg-type]


def test_an_answer_that_drips_passes_the_deadline() -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD)
        with suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.25)

    with serving(drip) as port, pytest.raises(LateError):
        get(port, 0.6)


def test_an_answer_that_ends_early_or_late() -> None:
    def short(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD + b"12345")

    def chunked(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"
        )
        until_closed(connection)

    with serving(short) as port, suppress(BrokenError):
        assert get(port).size == 5
    with serving(chunked) as port, pytest.raises(TooLongError):
        get(port)
    with serving(lambda connection: None) as port, pytest.raises(BrokenError):
        get(port)


def test_a_server_that_does_not_read() -> None:
    body = memoryview(bytes(40_000_000))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LateError):
            request("127.0.0.1", port, "POST", "/x", {}, Watch.of(0.3, threading.Event()), body=body)
        with pytest.raises(StoppedError):
            request("127.0.0.1", port, "POST", "/x", {}, Watch.of(9, stop), body=body)


def test_a_request_that_must_not_be_hung_up_on_is_kept_by_another_process() -> None:
    """The server sees the connection end only after its own answer, though the client gave up long before."""
    gave_up = threading.Event()
    seen: list[str] = []

    def late(connection: socket.socket) -> None:
        connection.recv(65536)
        assert gave_up.wait(20)
        connection.settimeout(0.5)
        try:
            connection.recv(1)
            seen.append("hung up")
        except TimeoutError:
            seen.append("still there")
        connection.settimeout(10)
        connection.sendall(HEAD + os.urandom(10))
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)
        seen.append("closed after the answer")

    with serving(late) as port:
        with pytest.raises(LateError):
            get(port, 0.3, keep=True)
        gave_up.set()
    assert seen == ["still there", "closed after the answer"]


def asked(outcomes: list[bool | TransferError], seconds: float = 3.0) -> TransferError | None:
    """What a probe raises within ``seconds``, if its questions have these outcomes."""

    def ask() -> bool:
        outcome = outcomes.pop(0) if outcomes else False
        if isinstance(outcome, TransferError):
            raise outcome
        return outcome

    probe = Probe(ask, lambda: PassingError("lost"), after=0.05, grace=0.1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            probe()
        except TransferError as error:
            return error
        time.sleep(0.01)
    return None


def test_a_probe_tells_a_lost_transfer_from_a_busy_peer() -> None:
    refused = asked([TransferError("gone")])
    assert refused is not None and refused.message == "gone"
    lost = asked([False, True])
    assert lost is not None and lost.message == "lost"
    assert asked([False, False], 0.4) is None
