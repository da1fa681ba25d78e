"""Objects in ProxyStore's endpoints by their documented HTTP interface, with a deadline for every operation.

ProxyStore's own client waits for ever when a peer dies in the middle of a transfer, and tells only an error's number.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from appfl_gc.payload.proxystore.endpoint import explain
from appfl_gc.payload.proxystore.endpoint.asking import ask, identify, probe_of
from appfl_gc.payload.proxystore.endpoint.own import OwnEndpoint, among, endpoint_uuid
from appfl_gc.payload.proxystore.endpoint.patient_http import Answer
from appfl_gc.payload.proxystore.endpoint.probe import AFTER
from appfl_gc.payload.proxystore.endpoint.watch import TooLongError, Watch
from appfl_gc.payload.retry import Patience, retry
from appfl_gc.protocol.errors import TransferError

SECONDS = 300.0
"""How long a peer may let us wait, its size's time apart: an endpoint serves its peers one after another."""

OWN_SECONDS = 30.0
SLOWEST = 1e6
"""Bytes per second below which a transfer counts as stuck; endpoints carry 10 to 25 MB/s."""

PATIENCE = Patience(tries=3, first=0.5, longest=8.0)


class EndpointClient:
    """Puts, gets and evicts objects, through the endpoint of the federation that runs nearest.

    Several threads may use one client.

    Args:
        endpoints: UUIDs of the federation's endpoints. The first that is configured and runs here is our own.
        proxystore_dir: where endpoints are configured, or None for ProxyStore's own choice.
        stop: once set, every operation ends within a second with ``TransferError``.
        seconds: how long a peer may let us wait beside the time that an object's size takes at ``SLOWEST``; the own
            endpoint ``OWN_SECONDS`` at most.
        probe_after: after how many seconds without progress a peer is asked whether it lives.
        patience: how often what may pass is tried again.
        own: UUID of the one of ``endpoints`` to use as our own; None takes the first that runs here.

    Raises:
        UsageError: if none of them is configured here, or a UUID is none.
        TransferError: if one is configured here, but none runs.
        VersionError: if ProxyStore is not installed.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        proxystore_dir: str | None = None,
        stop: threading.Event | None = None,
        *,
        seconds: float = SECONDS,
        probe_after: float = AFTER,
        patience: Patience = PATIENCE,
        own: str | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._seconds = seconds
        self._probe_after = probe_after
        self._patience = patience
        self._endpoints = frozenset(endpoint_uuid(text) for text in endpoints)
        candidates = among(endpoints if own is None else [own], proxystore_dir)
        self._own = candidates[0]
        self._own = retry(
            lambda: self._running(candidates), "The search for an endpoint", self._stop, patience
        )

    def __repr__(self) -> str:
        return f"EndpointClient({self._own})"

    @property
    def own(self) -> str:
        """UUID of the endpoint that this process uses."""
        return self._own.uuid

    @property
    def largest(self) -> int:
        """Bytes of the largest object that the own endpoint takes."""
        return self._own.largest

    @property
    def description(self) -> OwnEndpoint:
        """What is known of the own endpoint."""
        return self._own

    def put(
        self, object_id: str, data: bytes | bytearray | memoryview, endpoint_id: str | None = None
    ) -> None:
        """Store an object at the own endpoint, or at a peer.

        Args:
            object_id: its key.
            data: its bytes, at least one; sent without a copy.
            endpoint_id: a peer's UUID; None for the own endpoint.

        Raises:
            TransferError: if it is too large, or not taken.
        """
        view = memoryview(data).cast("B")
        if view.nbytes > self.largest:
            raise explain.too_large(self._own, view.nbytes)
        if not view.nbytes:
            raise TransferError("An object without bytes can't be put: ProxyStore's endpoints refuse it.")
        self._try("put", object_id, endpoint_id, view.nbytes, body=view)

    def get(self, object_id: str, endpoint_id: str | None = None, *, size: int | None = None) -> bytearray:
        """The bytes of an object.

        Args:
            object_id: its key.
            endpoint_id: UUID of the endpoint that holds it; None for the own one.
            size: how many bytes it must have; None takes what comes, up to ``largest``.

        Raises:
            TransferError: if it is gone, has another size, or does not come.
        """
        data = bytearray(self.largest if size is None else size)
        count = self.get_into(object_id, endpoint_id, memoryview(data), exact=size is not None)
        del data[count:]
        return data

    def get_into(
        self, object_id: str, endpoint_id: str | None, buffer: memoryview, *, exact: bool = True
    ) -> int:
        """Like ``get``, into memory of the caller's, which must be bytes; returns how many there are.

        Args:
            object_id: its key.
            endpoint_id: UUID of the endpoint that holds it; None for the own one.
            buffer: where they go.
            exact: whether fewer bytes than ``buffer`` has are an error. More always are.
        """
        try:
            answer = self._try("get", object_id, endpoint_id, buffer.nbytes, into=buffer)
        except TooLongError:
            raise explain.other_size(object_id, "more", buffer.nbytes) from None
        if answer.status == 404:
            raise explain.gone(self._own, object_id, endpoint_id)
        if exact and answer.size != buffer.nbytes:
            raise explain.other_size(object_id, f"{answer.size:,}", buffer.nbytes)
        return answer.size

    def exists(self, object_id: str, endpoint_id: str | None = None) -> bool:
        """Whether an endpoint (None: the own one) holds an object."""
        buffer = memoryview(bytearray(100))
        try:
            said = bytes(buffer[: self._try("exists", object_id, endpoint_id, 0, into=buffer).size])
        except TooLongError:
            said = b""
        if said not in (b'{"exists": true}', b'{"exists": false}'):
            raise explain.foreign(self._own, "its answer is not an endpoint's")
        return said == b'{"exists": true}'

    def evict(self, object_id: str, endpoint_id: str | None = None) -> None:
        """Forget an object of an endpoint (None: the own one); nothing happens if it is gone."""
        self._try("evict", object_id, endpoint_id, 0)

    def close(self) -> None:
        """Nothing is open between operations; here for symmetry with other clients."""

    def _try(
        self,
        operation: str,
        object_id: str,
        endpoint_id: str | None,
        size: int,
        *,
        body: memoryview | None = None,
        into: memoryview | None = None,
    ) -> Answer:
        peer = self._peer(endpoint_id)
        query = {"key": object_id} | ({} if peer is None else {"endpoint": peer})
        path, method = _ROUTES[operation]
        seconds = size / SLOWEST + (min(OWN_SECONDS, self._seconds) if peer is None else self._seconds)

        def once() -> Answer:
            if peer is None:
                watch = Watch.of(seconds, self._stop)
            else:
                probe = probe_of(self._own, peer, self._probe_after, self._stop)
                watch = Watch.of(seconds, self._stop, probe)
            answer = ask(self._own, method, path, query, watch, peer, body=body, into=into)
            if answer.status == 200 or (answer.status == 404 and operation == "get"):
                return answer
            raise explain.refused(self._own, operation, size, peer, answer)

        return retry(once, explain.action(self._own, operation, peer), self._stop, self._patience)

    def _peer(self, endpoint_id: str | None) -> str | None:
        if endpoint_id is None or (asked := endpoint_uuid(endpoint_id)) == self.own:
            return None
        if asked not in self._endpoints:
            raise TransferError(f"The endpoint {asked} is not one of this federation.")
        if self._own.relay is None:
            raise explain.alone(self._own, asked)
        return asked

    def _running(self, candidates: Sequence[OwnEndpoint]) -> OwnEndpoint:
        trouble: TransferError | None = None
        for own in candidates:
            try:
                identify(own, self._stop)
            except TransferError as error:
                if self._stop.is_set():
                    raise
                trouble = trouble or error
            else:
                return own
        raise trouble or explain.down(self._own, "nothing was tried")


_ROUTES = {
    "put": ("/set", "POST"),
    "get": ("/get", "GET"),
    "exists": ("/exists", "GET"),
    "evict": ("/evict", "POST"),
}
