"""A sum whose bits do not depend on when its parts come."""

from __future__ import annotations

import threading

from appfl_gc.aggregator.base import Seen


class OrderedSum:
    """Adds arrays in the order of their numbers, from whichever threads they come.

    What came too early waits; work that is taken in order has few such parts, as many as there are threads.
    """

    def __init__(self) -> None:
        self.value: Seen | None = None
        """The sum of the parts up to the first that has not come; None before number 0."""
        self._next = 0
        self._waiting: dict[int, Seen] = {}
        self._lock = threading.Lock()

    def add(self, number: int, part: Seen) -> None:
        """Add part ``number``, from 0, each once."""
        with self._lock:
            self._waiting[number] = part
            while self._next in self._waiting:
                part = self._waiting.pop(self._next)
                self.value = part if self.value is None else self.value + part
                self._next += 1
