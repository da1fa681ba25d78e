"""How often the service is asked about tasks: often at first, then ever less."""

from __future__ import annotations

FIRST = 1.0
GROWTH = 1.4


class Cadence:
    """Pure; times are monotonic seconds."""

    def __init__(self) -> None:
        self._interval = FIRST
        self._last = float("-inf")

    def due(self, now: float) -> bool:
        """Whether to ask now."""
        return now - self._last >= self._interval

    def asked(self, now: float, news: bool, longest: float) -> None:
        """The service was asked; ``news``: something had changed. Pauses grow up to ``longest`` seconds."""
        self._last = now
        self._interval = FIRST if news else min(self._interval * GROWTH, max(FIRST, longest))

    def restart(self, now: float) -> None:
        """Something new is on its way: it is asked about first after the shortest pause."""
        self._last, self._interval = now, FIRST
