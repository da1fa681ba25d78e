"""Calls in flight: sending them, matching their answers, sending them again."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from appfl_gc.control.plane import CallState, ControlPlane
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reply import Reply
from appfl_gc.runner.inbox import Answered, Inbox, Progressed


@dataclass(frozen=True)
class InFlight:
    """A call that has no answer yet.

    Attributes:
        call: as it was sent.
        sent: when, in monotonic seconds.
        version: of the model that it carries.
        states: what the control plane told of it on the way, each with its monotonic second.
    """

    call: Call
    sent: float
    version: int
    states: list[tuple[CallState, float]] = field(default_factory=list)

    def seconds_in(self, until: float) -> dict[str, float]:
        """Seconds spent in each state that was told, up to monotonic second ``until``."""
        ends = [*(at for _, at in self.states[1:]), until]
        seconds: dict[str, float] = {}
        for (state, at), end in zip(self.states, ends, strict=False):
            seconds[state.value] = seconds.get(state.value, 0.0) + max(0.0, end - at)
        return seconds


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

    def task_group(self, call: Call) -> str:
        """Where the service keeps ``call``; see ``ControlPlane.task_group``."""
        return self._plane.task_group(call)

    def next_attempt(self, flight: InFlight, compute_again: bool) -> Call:
        """The same call as a new attempt. ``compute_again``: the site's stored reply is of no use."""
        return replace(
            flight.call,
            identity=flight.call.identity.next_attempt(),
            nonce=secrets.token_hex(16),
            args={**flight.call.args, "compute_again": compute_again},
        )

    def note(self, item: Progressed) -> bool:
        """Remember how far a call got; False if nobody waits for its answer any more, or it is no news."""
        flight = self._in_flight.get(item.progress.call.identity.client)
        if flight is None or flight.call is not item.progress.call:
            return False
        flight.states.append((item.progress.state, item.at))
        return True

    def take(self, item: Answered) -> InFlight | None:
        """The call that ``item`` answers, no longer in flight; None if nobody waits for that answer."""
        flight = self._in_flight.get(item.call.identity.client)
        if flight is None or flight.call is not item.call:
            return None
        return self._in_flight.pop(item.call.identity.client)

    def in_use(self) -> frozenset[int]:
        """Versions of the global model that calls in flight still need."""
        return frozenset(flight.version for flight in self._in_flight.values())
