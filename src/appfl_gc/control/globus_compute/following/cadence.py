"""How often the service is asked about tasks: often at first, then ever less."""

from __future__ import annotations

GROWTH = 1.4


class Cadence:
    """Pure; times are monotonic seconds."""

    def __init__(self) -> None:
        self._interval = 0.0
        self._last = float("-inf")

    def due(self, now: float) -> bool:
        """Whether to ask now."""
        return now - self._last >= self._interval

    def asked(self, now: float, news: bool, shortest: float, longest: float) -> None:
        """The service was asked; ``news``: something had changed. Pauses grow from ``shortest`` up to ``longest``."""
        self._last = now
        grown = max(shortest, min(self._interval * GROWTH, longest))
        self._interval = shortest if news else grown

    def restart(self, now: float, first: float) -> None:
        """Something new is on its way: it is asked about ``first`` seconds from now."""
        self._last, self._interval = now, first
