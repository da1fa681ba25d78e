"""Calls in flight: sending them, matching their answers, sending them again."""

from __future__ import annotations

import time
from concurrent.futures import Future
from functools import partial

from appfl_gc.control.plane import ControlPlane
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reply import Reply
from appfl_gc.runner.flight import InFlight
from appfl_gc.runner.inbox import Answered, Inbox, Progressed


class Dispatcher:
    """Sends calls over a control plane; every answer comes into ``inbox``. One call a client at a time."""

    def __init__(self, plane: ControlPlane, inbox: Inbox) -> None:
        self._plane = plane
        self._inbox = inbox
        self._in_flight: dict[str, InFlight] = {}
        self._busy: dict[str, int] = {}

    @property
    def busy(self) -> frozenset[str]:
        """The clients for which something is under way: a call, or a payload before or after it."""
        return frozenset(self._busy)

    def begin(self, client: str, version: int) -> None:
        """Something is under way for ``client``, with model ``version``, until ``done``."""
        self._busy[client] = version

    def done(self, client: str) -> None:
        """Nothing is under way for ``client`` any more."""
        self._busy.pop(client, None)

    def send(self, call: Call, version: int, mailbox: ServerMailbox | None = None) -> None:
        """Send ``call``; ``version`` is the model version that it carries, ``mailbox`` lies beside it."""
        self._follow(InFlight(call, time.monotonic(), version, mailbox))
        self._plane.submit(call).add_done_callback(partial(self._answered, call))

    def attach(self, flight: InFlight, group: str) -> None:
        """Wait for the answer to ``flight``, which an earlier process sent; see ``ControlPlane.attach``."""
        self._follow(flight)
        self._plane.attach(flight.call, group, flight.task).add_done_callback(
            partial(self._answered, flight.call)
        )

    def _follow(self, flight: InFlight) -> None:
        client = flight.call.identity.client
        self.begin(client, flight.version)
        self._in_flight[client] = flight

    def _answered(self, call: Call, future: Future[Reply]) -> None:
        if not future.cancelled():
            self._inbox.put(Answered.of(call, future, time.monotonic()))

    def flight(self, client: str) -> InFlight | None:
        """The call of ``client`` that has no answer yet, or None."""
        return self._in_flight.get(client)

    def version_of(self, client: str) -> int | None:
        """The model version with which something is under way for ``client``, or None."""
        return self._busy.get(client)

    def forget(self, client: str) -> InFlight | None:
        """Nobody waits for the answer to the call of ``client`` any more, nor for a payload; what call that was."""
        self.done(client)
        return self._in_flight.pop(client, None)

    @property
    def in_flight(self) -> list[InFlight]:
        """The calls that have no answer yet."""
        return list(self._in_flight.values())

    def task_group(self, call: Call) -> str:
        """Where the service keeps ``call``; see ``ControlPlane.task_group``."""
        return self._plane.task_group(call)

    def note(self, item: Progressed) -> bool:
        """Remember how far a call got; False if nobody waits for its answer any more, or it is no news."""
        flight = self._in_flight.get(item.progress.call.identity.client)
        if flight is None or flight.call is not item.progress.call:
            return False
        flight.states.append((item.progress.state, item.at))
        return True

    def take(self, item: Answered) -> InFlight | None:
        """The call that ``item`` answers, no longer in flight; None if nobody waits for that answer.

        Its client stays busy until ``done``: the reply may be followed by a payload.
        """
        flight = self._in_flight.get(item.call.identity.client)
        if flight is None or flight.call is not item.call:
            return None
        return self._in_flight.pop(item.call.identity.client)

    def in_use(self) -> frozenset[int]:
        """Versions of the global model that something under way still needs."""
        return frozenset(self._busy.values())
