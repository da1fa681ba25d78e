"""Calls that have no answer yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from appfl_gc.control.globus_compute.failing.failures import Place
from appfl_gc.control.plane import CallState, Listener, Progress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, DeliveryError
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.wire import clean_text

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.sending.lane import Lane

LONGEST_REASON = 500


@dataclass(eq=False)
class OpenCall:
    """One call between ``submit`` and its answer.

    Attributes:
        call: what is asked.
        lane: how it is sent.
        place: client, endpoint and, once the service has taken it, task.
        group: task group at the service.
        size: bytes that it adds to a request.
        future: gets the answer.
        request: which request carried it; calls of one request share the number. 0 before.
        attached: whether an earlier process sent it; then it is never sent from here.
        taken: monotonic seconds when the service took it, or this process attached to it; None before.
        opened: monotonic seconds when it was submitted.
        state, detail: what was told last.
    """

    call: Call
    lane: Lane
    place: Place
    group: str
    size: int
    future: Future[Reply] = field(default_factory=Future)
    request: int = 0
    attached: bool = False
    taken: float | None = None
    opened: float = field(default_factory=time.monotonic)
    state: CallState = CallState.SENDING
    detail: str = ""

    @property
    def task(self) -> str:
        """The service's number of it, or ""."""
        return self.place.task

    def unsent(self) -> None:
        """It is to be sent again, as another task."""
        self.place = replace(self.place, task="")
        self.taken = None

    def took(self, task: str) -> None:
        """The service took it as ``task``."""
        self.place = replace(self.place, task=task)


class OpenCalls:
    """All open calls of a plane. Whoever finishes a call first answers it; later answers go nowhere."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._open: dict[OpenCall, None] = {}

    def add(self, call: OpenCall) -> None:
        """A new call; its state is told."""
        with self._lock:
            self._open[call] = None
        self._listener(Progress(call.call, call.state, task=call.task))

    def __contains__(self, call: OpenCall) -> bool:
        with self._lock:
            return call in self._open

    def matching(self, wanted: Callable[[OpenCall], bool]) -> list[OpenCall]:
        """The open calls for which ``wanted`` holds, oldest first."""
        with self._lock:
            return [call for call in self._open if wanted(call)]

    def tell(self, call: OpenCall, state: CallState, detail: str = "") -> None:
        """The call reached ``state``; told once."""
        if call in self and (call.state, call.detail) != (state, detail):
            call.state, call.detail = state, detail
            self._listener(Progress(call.call, state, detail, call.task))

    def answer(self, call: OpenCall, reply: Reply) -> None:
        """The call has its reply."""
        if self._take(call):
            call.future.set_result(reply)

    def fail(self, calls: Iterable[OpenCall], why: Callable[[OpenCall], AppflGcError]) -> None:
        """The calls have no reply, and this is why."""
        for call in calls:
            try:
                error = why(call)
            except Exception as broken:  # noqa: BLE001  a call that is not answered is waited for without end
                said = clean_text(repr(broken), LONGEST_REASON)
                error = DeliveryError(f"The call failed, and why can't be told: {said} ({call.place})")
            if self._take(call):
                call.future.set_exception(error)

    def _take(self, call: OpenCall) -> bool:
        with self._lock:
            if call not in self._open:
                return False
            del self._open[call]
        return call.future.set_running_or_notify_cancel()
