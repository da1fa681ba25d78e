"""For how long something has been silent: pure, with the time given."""

from __future__ import annotations


class Silence:
    """Remembers since when each name has given no sign of life. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._asked: dict[str, float] = {}

    def heard(self, name: str, alive: bool | None, now: float) -> None:
        """Whether ``name`` is there; None: nobody says, which counts as a sign of life."""
        if alive is False:
            self._since.setdefault(name, now)
        else:
            self._since.pop(name, None)

    def silent(self, name: str, since: float, now: float) -> float:
        """Seconds of silence that a call sent at ``since`` has met."""
        begun = self._since.get(name)
        return 0.0 if begun is None else max(0.0, now - max(begun, since))

    def asked(self, name: str, now: float) -> None:
        """The service is asked about ``name``, whether it answers or not."""
        self._asked[name] = now

    def due(self, names: set[str], now: float, period: float) -> str | None:
        """The name to ask about next: the one not asked about for longest, if that is ``period`` or more."""
        oldest = min(names, key=lambda name: self._asked.get(name, float("-inf")), default=None)
        if oldest is None or now - self._asked.get(oldest, float("-inf")) < period:
            return None
        return oldest
