"""Which clients take so much longer than usual that nobody should wait for them at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable

from appfl_gc.protocol.schedule import UpdateMeta, WakeAt
from appfl_gc.scheduler.measured import LONGEST, moving_average

PATIENCE = 3.0
"""A flight is overdue when it is out for this many times as long as its client usually takes."""


class Overdue:
    """Keeps how long clients usually take, and who takes much longer just now.

    Work that is known to take longer than usual is given the longer time. A client without a measurement is given the
    longest average of the others; while there is none, nobody is overdue. The flights are looked through only when
    ``look`` is called at a moment at which one may have become overdue, not at each event.

    Attributes:
        clients: those whose flight is overdue.
    """

    def __init__(self) -> None:
        self.clients: set[str] = set()
        self._began: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._average: dict[str, float] = {}
        self._next = math.inf  # no flight is overdue before, as far as was looked
        self._asked = math.inf  # when a timer is to fire

    def began(self, client: str, now: float, expected: float = 0.0) -> None:
        """``client`` was sent work, which is ``expected`` to take so many seconds if that is known."""
        self._began[client] = now
        self._expected[client] = expected
        if self._average and (client not in self._average or self._due(client, math.inf) < self._next):
            self._next = now

    def ended(self, client: str) -> None:
        """``client`` has answered or is not counted on any more."""
        self._began.pop(client, None)
        self.clients.discard(client)

    def measure(self, meta: UpdateMeta) -> None:
        """Average in how long an update took."""
        client, seconds = meta.update.client, min(meta.timing.turn_around, LONGEST)
        if not self._average:
            self._next = -math.inf
        self._average[client] = moving_average(self._average.get(client, seconds), seconds, 0.5)

    def look(self, now: float) -> None:
        """Find who is overdue at ``now``."""
        if now < self._next:
            return
        longest = max(self._average.values(), default=math.inf)
        waiting = {client: self._due(client, longest) for client in self._began}
        self.clients = {client for client, due in waiting.items() if due <= now}
        self._next = min((due for due in waiting.values() if due > now), default=math.inf)

    def wake(self, now: float) -> Iterable[WakeAt]:
        """Ask for a timer at the moment at which the next flight is overdue, unless one is to fire by then."""
        if self._asked <= now:
            self._asked = math.inf
        if now < self._next < self._asked:
            self._asked = self._next
            yield WakeAt(self._next)

    def _due(self, client: str, longest: float) -> float:
        usual = self._average.get(client, longest)
        return self._began[client] + PATIENCE * max(usual, self._expected[client])
