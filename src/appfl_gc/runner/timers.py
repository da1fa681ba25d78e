"""Times at which something is to be done."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from appfl_gc.protocol.schedule import Timer, UpdateId
from appfl_gc.runner.policy.decisions import Due


@dataclass(frozen=True)
class AskSites:
    """It is time to look how far sites are."""


Timed: TypeAlias = Timer | Due | UpdateId | AskSites
"""What a run does at a time: wakes its scheduler or its policy, sends a call again, looks at progress."""

What = TypeVar("What")


class Timers(Generic[What]):
    """Seconds of the run, each with what is to be done then; any number of them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, What]] = []
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        """Whether any is set."""
        return bool(self._heap)

    def set(self, at: float, what: What) -> None:
        """Set one for second ``at``, which may be past."""
        heapq.heappush(self._heap, (at, next(self._numbers), what))

    @property
    def next(self) -> float | None:
        """The earliest; None if none is set."""
        return self._heap[0][0] if self._heap else None

    def take_first(self) -> None:
        """The earliest is not set any more, if there is one."""
        if self._heap:
            heapq.heappop(self._heap)

    def take_due(self, now: float) -> list[tuple[float, What]]:
        """Those that are due at second ``now``, in order; they are not set any more.

        What they make the scheduler set anew waits for the next call, so that timers without end hold up nothing.
        """
        due = []
        while self._heap and self._heap[0][0] <= now:
            at, _, what = heapq.heappop(self._heap)
            due.append((at, what))
        return due

    def all(self) -> list[tuple[float, What]]:
        """Every one, in order."""
        return [(at, what) for at, _, what in sorted(self._heap, key=lambda item: item[:2])]
