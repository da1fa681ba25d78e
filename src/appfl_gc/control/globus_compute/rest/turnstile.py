"""Lets the requests of one identity through, within the service's rate. All of them: it counts them together."""

from __future__ import annotations

import threading
import time

from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
from appfl_gc.protocol.errors import DeliveryError


class ClosingError(DeliveryError):
    """The run is ending."""

    def __init__(self, message: str = "The run is ending; the call was given up.", hint: str = "") -> None:
        super().__init__(message, hint)


class Turnstile:
    """Thread safe.

    Args:
        limit: how often requests may go.
        closing: set when the run ends; what waits then raises ``ClosingError``.
    """

    def __init__(self, limit: RateLimit, closing: threading.Event) -> None:
        self._limit = limit
        self._closing = closing
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Wait until one more request may go, and count it.

        Raises:
            ClosingError: if the run ends.
        """
        while True:
            with self._lock:
                wait = self._limit.wait(time.monotonic())
                if wait == 0:
                    self._limit.sent(time.monotonic())
                    break
            self.pause(wait)
        if self._closing.is_set():
            raise ClosingError

    def room(self, spare: int) -> None:
        """Wait until a request can go that leaves room for ``spare`` more pressing ones; it is not counted yet.

        Raises:
            ClosingError: if the run ends.
        """
        while True:
            with self._lock:
                wait = self._limit.wait(time.monotonic(), spare)
            if wait == 0:
                return
            self.pause(wait)

    def pause(self, seconds: float) -> None:
        """Wait; raises ``ClosingError`` if the run ends."""
        if self._closing.wait(seconds):
            raise ClosingError

    def throttled(self, retry_after: float | None) -> float:
        """The service asks for fewer requests; returns for how many seconds none goes."""
        with self._lock:
            return self._limit.refused(time.monotonic(), retry_after)

    def accepted(self) -> None:
        """The service took a request."""
        with self._lock:
            self._limit.accepted()
