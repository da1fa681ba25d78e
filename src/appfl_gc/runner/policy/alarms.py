"""Times at which something is due, and the one of them to be woken at."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from appfl_gc.protocol.schedule import UpdateId

What = UpdateId | str
"""The deadline of a dispatch, or the name of a client that is to be greeted again."""


class Alarms:
    """Alarms by time. What they are for may end or change without a word: whoever asks says what still stands.

    Args:
        stands: whether an alarm of this time is still meant.
    """

    def __init__(self, stands: Callable[[float, What], bool]) -> None:
        self._stands = stands
        self._alarms: list[tuple[float, int, What]] = []
        self._number = 0
        self._waking_at: float | None = None

    def set(self, at: float, what: What) -> None:
        """``what`` is due at second ``at`` of the run."""
        self._number += 1
        heapq.heappush(self._alarms, (at, self._number, what))

    def take_due(self, now: float) -> Iterator[What]:
        """What is due at ``now``, one after the other; each is taken out."""
        if self._waking_at is not None and self._waking_at <= now:
            self._waking_at = None
        while self._alarms and self._alarms[0][0] <= now:
            at, _, what = heapq.heappop(self._alarms)
            if self._stands(at, what):
                yield what

    def to_set(self) -> float | None:
        """When to be woken, if that has not been asked for yet."""
        while self._alarms and not self._stands(self._alarms[0][0], self._alarms[0][2]):
            heapq.heappop(self._alarms)
        if not self._alarms or (self._waking_at is not None and self._waking_at <= self._alarms[0][0]):
            return None
        self._waking_at = self._alarms[0][0]
        return self._waking_at

    def forget_waking(self) -> None:
        """Nobody remembers what was asked for: another process goes on."""
        self._waking_at = None
