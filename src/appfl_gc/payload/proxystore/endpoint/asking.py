"""One request to the own endpoint, its failures in plain sentences."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from appfl_gc.payload.proxystore.endpoint import explain
from appfl_gc.payload.proxystore.endpoint.own import OwnEndpoint
from appfl_gc.payload.proxystore.endpoint.patient_http import Answer, request
from appfl_gc.payload.proxystore.endpoint.probe import Probe
from appfl_gc.payload.proxystore.endpoint.watch import (
    BrokenError,
    ForeignError,
    LateError,
    StoppedError,
    TooLongError,
    Watch,
)
from appfl_gc.payload.retry import interrupted

IDENTIFY_SECONDS = 10.0
PROBE_SECONDS = 45.0
"""An endpoint gives up a connection to a peer after 30 s."""


def ask(
    own: OwnEndpoint,
    method: str,
    path: str,
    query: Mapping[str, str],
    watch: Watch,
    peer: str | None = None,
    *,
    body: memoryview | None = None,
    into: memoryview | None = None,
) -> Answer:
    """What the own endpoint answers; see ``patient_http.request``.

    Args:
        own: the own endpoint.
        method: ``GET`` or ``POST``.
        path: of what is asked for.
        query: the key, and the peer's UUID if it is to be asked.
        watch: how long it may take.
        peer: its UUID, for errors; None if the own endpoint answers by itself.
        body: bytes to send.
        into: where an answer 200 goes.

    Raises:
        TransferError: if there is no answer, or none of an endpoint.
        TooLongError: if it has more bytes than ``into``.
    """
    if own.host is None:
        raise explain.never_started(own)
    try:
        return request(
            own.host, own.port, method, path, query, watch, body=body, into=into, keep=peer is not None
        )
    except StoppedError:
        raise interrupted("A transfer by ProxyStore endpoints") from None
    except LateError:
        raise explain.late(own, peer, watch.seconds) from None
    except BrokenError as error:
        raise explain.down(own, str(error)) from None
    except ForeignError as error:
        raise explain.foreign(own, str(error)) from None


def identify(own: OwnEndpoint, stop: threading.Event) -> None:
    """Return if the endpoint runs where its configuration says.

    Raises:
        TransferError: if it does not, or something else runs there.
    """
    buffer = memoryview(bytearray(200))
    try:
        answer = ask(own, "GET", "/endpoint", {}, Watch.of(IDENTIFY_SECONDS, stop), into=buffer)
    except TooLongError:
        answer = Answer(200, 0)
    if answer.status != 200 or own.uuid.encode() not in bytes(buffer[: answer.size]).lower():
        raise explain.foreign(own, "it is another endpoint, or another program")


def probe_of(own: OwnEndpoint, peer: str, after: float, stop: threading.Event) -> Probe:
    """A ``Probe`` that asks ``peer`` whether it has an object that nobody has."""

    def question() -> bool:
        query = {"key": "nothing", "endpoint": peer}
        watch = Watch.of(PROBE_SECONDS, stop)
        try:
            answer = request(own.host or "", own.port, "GET", "/exists", query, watch, keep=True)
        except (StoppedError, LateError, BrokenError, TooLongError, ForeignError):
            return False  # the transfer itself meets what this says of the own endpoint
        if answer.status != 200:
            raise explain.refused(own, "exists", 0, peer, answer)
        return True

    return Probe(question, lambda: explain.lost(own, peer), after=after)
