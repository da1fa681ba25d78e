"""How long endpoints have been silent: pure, with the time given."""

from __future__ import annotations


class Silence:
    """Remembers when each endpoint was last known to be there. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._asked: dict[str, float] = {}

    def heard(self, endpoint: str, online: bool | None, now: float) -> None:
        """What the service says of ``endpoint``; None: it does not say, which counts as a sign of life."""
        self._asked[endpoint] = now
        if online is False:
            self._since.setdefault(endpoint, now)
        else:
            self._since.pop(endpoint, None)

    def silent(self, endpoint: str, since: float, now: float) -> float:
        """Seconds of silence that a call sent at ``since`` has met."""
        begun = self._since.get(endpoint)
        return 0.0 if begun is None else max(0.0, now - max(begun, since))

    def due(self, endpoints: set[str], now: float, period: float) -> str | None:
        """The endpoint to ask about next: the one not asked about for longest, if that is ``period`` or more."""
        oldest = min(endpoints, key=lambda name: self._asked.get(name, float("-inf")), default=None)
        if oldest is None or now - self._asked.get(oldest, float("-inf")) < period:
            return None
        return oldest
