"""Stops a loop of failing starts: each costs a batch job at a facility."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

TRIPS_AT = 2


class StartGuard:
    """Counts failed starts in a row of each place that starts workers; pure.

    Calls that were sent together fail together: they count once.
    """

    def __init__(self) -> None:
        self._failures: Counter[Hashable] = Counter()
        self._last: dict[Hashable, Hashable] = {}

    def failed(self, place: Hashable, request: Hashable) -> bool:
        """A start failed for the calls of ``request``; whether this failure is the one that trips the guard."""
        if self._last.get(place) == request:
            return False
        self._last[place] = request
        self._failures[place] += 1
        return self._failures[place] == TRIPS_AT

    def answered(self, place: Hashable) -> None:
        """A worker of ``place`` answered."""
        if not self.tripped(place):
            self._failures.pop(place, None)

    def tripped(self, place: Hashable) -> bool:
        """Whether nothing may be sent to ``place`` any more."""
        return self._failures[place] >= TRIPS_AT
