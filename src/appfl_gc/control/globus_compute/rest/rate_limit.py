"""The service's rate limit, kept on this side: pure, with the time given."""

from __future__ import annotations

from collections import deque

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 60.0


class RateLimit:
    """At most ``requests`` in any ``seconds``, and a pause that doubles while the service refuses.

    Times are monotonic seconds.
    """

    def __init__(self, requests: int, seconds: float) -> None:
        self._requests = requests
        self._seconds = seconds
        self._sent: deque[float] = deque(maxlen=requests)
        self._not_before = 0.0
        self._backoff = FIRST_BACKOFF

    def wait(self, now: float, spare: int = 0) -> float:
        """Seconds until a request may go and leave room for ``spare`` others; 0 if it may go now."""
        beyond = len(self._sent) - max(1, self._requests - spare)
        window = self._sent[beyond] + self._seconds if beyond >= 0 else now
        return max(0.0, window - now, self._not_before - now)

    def sent(self, now: float) -> None:
        """A request goes."""
        self._sent.append(now)

    def accepted(self) -> None:
        """The service took a request: the next pause is the first again."""
        self._backoff = FIRST_BACKOFF

    def refused(self, now: float, retry_after: float | None = None) -> float:
        """The service asks for fewer requests; returns the pause in seconds, at least what it asks for."""
        pause = min(max(retry_after or 0.0, self._backoff), LONGEST_BACKOFF)
        self._backoff = min(2 * self._backoff, LONGEST_BACKOFF)
        self._not_before = max(self._not_before, now + pause)
        return pause
