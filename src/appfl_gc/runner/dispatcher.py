"""Calls in flight: sending them, matching their answers, sending them again."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace

from appfl_gc.control.plane import ControlPlane
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reply import Reply
from appfl_gc.runner.inbox import Answered, Inbox


@dataclass(frozen=True)
class InFlight:
    """A call that has no answer yet: when it was sent (monotonic seconds), and the model version it carries."""

    call: Call
    sent: float
    version: int


class Dispatcher:
    """Sends calls over a control plane; every answer comes into ``inbox``. One call a client at a time."""

    def __init__(self, plane: ControlPlane, inbox: Inbox) -> None:
        self._plane = plane
        self._inbox = inbox
        self._in_flight: dict[str, InFlight] = {}

    @property
    def busy(self) -> frozenset[str]:
        """The clients with a call in flight."""
        return frozenset(self._in_flight)

    def send(self, call: Call, version: int) -> None:
        """Send ``call``; ``version`` is the model version that it carries."""
        self._in_flight[call.identity.client] = InFlight(call, time.monotonic(), version)

        def answered(future: Future[Reply]) -> None:
            if not future.cancelled():
                self._inbox.put(Answered.of(call, future, time.monotonic()))

        self._plane.submit(call).add_done_callback(answered)

    def send_again(self, flight: InFlight, compute_again: bool) -> None:
        """The same call as a new attempt. ``compute_again``: the site's stored reply is of no use."""
        call = replace(
            flight.call,
            identity=flight.call.identity.next_attempt(),
            nonce=secrets.token_hex(16),
            args={**flight.call.args, "compute_again": compute_again},
        )
        self.send(call, flight.version)

    def take(self, item: Answered) -> InFlight | None:
        """The call that ``item`` answers, no longer in flight; None if nobody waits for that answer."""
        flight = self._in_flight.get(item.call.identity.client)
        if flight is None or flight.call is not item.call:
            return None
        return self._in_flight.pop(item.call.identity.client)

    def in_use(self) -> frozenset[int]:
        """Versions of the global model that calls in flight still need."""
        return frozenset(flight.version for flight in self._in_flight.values())
