"""The timers that a scheduler has set."""

from __future__ import annotations

import heapq


class Timers:
    """Seconds of the run at which the scheduler is to be woken; any number of them."""

    def __init__(self) -> None:
        self._heap: list[float] = []

    def __bool__(self) -> bool:
        """Whether any is set."""
        return bool(self._heap)

    def set(self, at: float) -> None:
        """Set one for second ``at``, which may be past."""
        heapq.heappush(self._heap, at)

    @property
    def next(self) -> float | None:
        """The earliest; None if none is set."""
        return self._heap[0] if self._heap else None

    def take_due(self, now: float) -> list[float]:
        """Those that are due at second ``now``, in order; they are not set any more.

        What they make the scheduler set anew waits for the next call, so that timers without end hold up nothing.
        """
        due = []
        while self._heap and self._heap[0] <= now:
            due.append(heapq.heappop(self._heap))
        return due
