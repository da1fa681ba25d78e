"""How long something may take, and what ends it early."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

TICK = 0.2
"""Seconds after which a wait looks at the stop event."""


class StoppedError(Exception):
    """The stop event was set in the middle of a request."""


class LateError(Exception):
    """The deadline passed before the request was done."""


class BrokenError(Exception):
    """There is no connection, or it broke."""


class TooLongError(Exception):
    """The answer has more bytes than there is room for."""


class ForeignError(Exception):
    """What answers does not speak HTTP, or answers other than it was asked."""


@dataclass(frozen=True)
class Watch:
    """How long something may take.

    Attributes:
        stop: ends every wait with ``StoppedError`` once it is set.
        seconds: how long in all.
        deadline: when that ends, by ``time.monotonic``; passing it is a ``LateError``.
        idle: called about every ``TICK`` seconds while nothing moves.
    """

    stop: threading.Event
    seconds: float
    deadline: float
    idle: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, seconds: float, stop: threading.Event, idle: Callable[[], None] = lambda: None) -> Watch:
        """One that ends ``seconds`` from now."""
        return cls(stop, seconds, time.monotonic() + seconds, idle)

    def wait(self, sock: socket.socket, *, write: bool, until: float | None = None) -> None:
        """Return once ``sock`` can be read, or written; ``until`` is a nearer deadline."""
        deadline = self.deadline if until is None else min(until, self.deadline)
        poller = select.poll()  # not select(): descriptors may be above 1023
        poller.register(sock, select.POLLOUT if write else select.POLLIN)
        while True:
            if self.stop.is_set():
                raise StoppedError
            left = deadline - time.monotonic()
            if left <= 0:
                raise LateError
            if poller.poll(min(left, TICK) * 1000):
                return
            self.idle()
