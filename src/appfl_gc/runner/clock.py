"""The clock of a run: seconds since it began, without the time in which no server ran."""

from __future__ import annotations

import time


class RunClock:
    """Never goes back, also across a resume.

    Args:
        begun: second of the run at which it goes on.
    """

    def __init__(self, begun: float = 0.0) -> None:
        self._start = time.monotonic() - begun
        self._told = begun

    @property
    def now(self) -> float:
        """Seconds of run."""
        return time.monotonic() - self._start

    def tick(self, at_least: float = 0.0) -> float:
        """The second to tell a scheduler or a policy: in whole microseconds, and not before what was told last.

        Args:
            at_least: the second for which a timer was set.
        """
        self._told = max(round(self.now, 6), self._told, at_least)
        return self._told
