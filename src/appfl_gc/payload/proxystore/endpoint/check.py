"""Try a ProxyStore endpoint, and the way to a peer, with a small object: does it work, and how fast."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.payload.proxystore.endpoint.client import EndpointClient
from appfl_gc.payload.proxystore.endpoint.own import OwnEndpoint, configured, endpoint_uuid, home
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.errors import AppflGcError, TransferError, UsageError

SIZE = 10_000_000
SECONDS = 90.0
"""For one step with a peer; a connection that can't be made takes ProxyStore 30 s."""


@dataclass(frozen=True)
class Step:
    """One thing that was tried.

    Attributes:
        where: ``own`` or the peer's UUID.
        what: ``reach``, ``exists``, ``put`` or ``get``.
        seconds: how long it took.
        size: bytes moved; 0 for a question.
        message: what went wrong, or "".
        hint: what to do about it, or "".
    """

    where: str
    what: str
    seconds: float
    size: int = 0
    message: str = ""
    hint: str = ""

    @property
    def rate(self) -> float | None:
        """Bytes per second, for what moved any."""
        return self.size / self.seconds if self.size and not self.message and self.seconds > 0 else None


def choose(name: str | None, proxystore_dir: str | Path | None = None) -> OwnEndpoint:
    """The endpoint of this name, or the only one that is configured here.

    Raises:
        UsageError: if there is none, or there are several and no name.
        VersionError: if ProxyStore is not installed.
    """
    here = configured(proxystore_dir)
    found = [one for one in here if name in (None, one.name, one.uuid)]
    if len(found) == 1:
        return found[0]
    place = home(proxystore_dir)
    if not here:
        raise UsageError(
            f"No ProxyStore endpoint is configured in {place}.",
            "`proxystore-endpoint configure NAME` makes one; PROXYSTORE_HOME names another directory.",
        )
    names = ", ".join(str(one) for one in here)
    if found:
        raise UsageError(
            f"Several ProxyStore endpoints are configured in {place}: {names}.", "Name one of them."
        )
    raise UsageError(f"There is no ProxyStore endpoint {name} in {place}.", f"There are {names}.")


def check(
    own: OwnEndpoint,
    remote: str | None = None,
    proxystore_dir: str | Path | None = None,
    *,
    size: int = SIZE,
    seconds: float = SECONDS,
    stop: threading.Event | None = None,
) -> Iterator[Step]:
    """Try one thing after another, up to the first that fails; what was put is removed again.

    Args:
        own: the endpoint of this machine.
        remote: UUID of a peer to try too, or None.
        proxystore_dir: where endpoints are configured, or None for ProxyStore's own choice.
        size: bytes of the object, at most what the own endpoint takes.
        seconds: how long one step with the peer may take.
        stop: ends the check once it is set.

    Raises:
        UsageError: if ``remote`` is no UUID.
    """
    peer = None if remote is None else endpoint_uuid(remote)
    places = [own.uuid, *([] if peer is None else [peer])]
    clients: list[EndpointClient] = []

    def reach() -> None:
        clients.append(
            EndpointClient(
                places,
                None if proxystore_dir is None else str(proxystore_dir),
                stop,
                seconds=seconds,
                patience=Patience(tries=1),
                own=own.uuid,
            )
        )

    step = _timed("own", "reach", 0, reach)
    yield step
    if step.message:
        return
    yield from _both_ways(clients[0], "own", None, min(size, own.largest))
    if peer is not None and peer != own.uuid:
        yield from _both_ways(clients[0], peer, peer, min(size, own.largest))


def _both_ways(client: EndpointClient, where: str, peer: str | None, size: int) -> Iterator[Step]:
    key, data = f"check-{secrets.token_hex(16)}", os.urandom(size)

    def get() -> None:
        if client.get(key, peer, size=size) != data:
            raise TransferError("What came back is not what was put.", "Do not use this endpoint.")

    tries: list[tuple[str, int, Callable[[], object]]] = [
        ("exists", 0, lambda: client.exists(key, peer)),
        ("put", size, lambda: client.put(key, data, peer)),
        ("get", size, get),
    ]
    for what, moved, work in tries:
        step = _timed(where, what, moved, work)
        yield step
        if step.message:
            return
    with contextlib.suppress(AppflGcError):
        client.evict(key, peer)


def _timed(where: str, what: str, size: int, work: Callable[[], object]) -> Step:
    began = time.monotonic()
    try:
        work()
    except AppflGcError as error:
        return Step(where, what, time.monotonic() - began, size, error.message, error.hint)
    return Step(where, what, time.monotonic() - began, size)
