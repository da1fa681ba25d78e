"""The cloud's request limit, per identity."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

from appfl_gc.sandbox.errors import ServiceError


@dataclass
class RateLimit:
    """At most ``requests`` in any ``seconds``; 0 requests: no limit. Safe for use by several threads."""

    requests: int
    seconds: float
    _times: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, who: str) -> None:
        """Count a request; raises ``ServiceError`` 429 with ``Retry-After`` if it is one too many."""
        if self.requests <= 0:
            return
        now = time.monotonic()
        with self._lock:
            times = self._times[who]
            while times and now - times[0] > self.seconds:
                times.popleft()
            if len(times) >= self.requests:
                wait = max(1, math.ceil(self.seconds - (now - times[0])))
                text = f"Too many requests: {self.requests} in {self.seconds:g} s are allowed."
                raise ServiceError(429, "RATE_LIMIT_EXCEEDED", text, {"Retry-After": str(wait)})
            times.append(now)
