"""Who takes part, who is set aside and may come back, and how often each failed lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

LONGEST_ABSENCE = 16
"""A client that fails again and again is greeted after at most so many times the first pause: each greeting may cost
its site a batch job."""


class Roll:
    """The clients of a run: each takes part, or is set aside.

    Those that take part are up once they have answered a greeting. All operations take constant time; ``active`` and
    ``aside`` take it as long as nobody comes or goes.

    Args:
        clients: all of them; all take part at first.
    """

    def __init__(self, clients: Iterable[str]) -> None:
        self._active: dict[str, None] = dict.fromkeys(clients)
        self._size = len(self._active)
        self._up: set[str] = set()
        self._aside: dict[str, float | None] = {}
        self._returning: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._absences: Counter[str] = Counter()
        self._shown: frozenset[str] | None = None

    def __contains__(self, client: str) -> bool:
        return client in self._active or client in self._aside

    def __len__(self) -> int:
        return self._size

    @property
    def active(self) -> frozenset[str]:
        """Who takes part."""
        if self._shown is None:
            self._shown = frozenset(self._active)
        return self._shown

    @property
    def aside(self) -> list[str]:
        """Who does not, the longest away first."""
        return list(self._aside)

    @property
    def up_count(self) -> int:
        """How many take part and have answered a greeting."""
        return len(self._up)

    def is_up(self, client: str) -> bool:
        """Whether ``client`` takes part and has answered a greeting."""
        return client in self._up

    def count_without(self, *clients: str) -> int:
        """How many take part beside ``clients``."""
        return len(self._active) - sum(client in self._active for client in clients)

    def may_return(self, besides: str) -> bool:
        """Whether a client that is set aside will be greeted again, or is greeted now; ``besides`` does not count."""
        return len(self._returning) > (besides in self._returning)

    def again_at(self, client: str) -> float | None:
        """When ``client`` is greeted again; None if it takes part, is greeted already, or stays away."""
        return self._aside.get(client)

    def failures(self, client: str) -> int:
        """Dispatches of ``client`` in a row of which nothing came."""
        return self._failures[client]

    def failed(self, client: str) -> None:
        """Nothing came of a dispatch of ``client``."""
        self._failures[client] += 1

    def delivered(self, client: str) -> None:
        """``client`` brought an update: what was before is forgotten."""
        self._failures.pop(client, None)
        self._absences.pop(client, None)

    def absence(self, client: str, first: float) -> float:
        """How long ``client`` stays away when it is set aside now: ``first`` seconds, then twice as long each time."""
        return first * min(LONGEST_ABSENCE, 2.0 ** min(self._absences[client], LONGEST_ABSENCE))

    def set_aside(self, client: str, again_at: float | None) -> None:
        """``client`` takes no part any more; ``again_at`` is when it is greeted again."""
        if client in self._active:
            del self._active[client]
            self._shown = None
        self._up.discard(client)
        self._aside[client] = again_at
        self._returning.discard(client)
        if again_at is not None:
            self._returning.add(client)
            self._absences[client] += 1

    def greeted_again(self, client: str) -> None:
        """``client``, which is set aside, is greeted again."""
        self._aside[client] = None
        self._returning.add(client)

    def met(self, client: str) -> bool:
        """``client`` has answered a greeting and takes part, with a new chance; whether it was not up before."""
        if client not in self or client in self._up:
            return False
        if client in self._aside:
            del self._aside[client]
            self._returning.discard(client)
            self._active[client] = None
            self._shown = None
        self._failures.pop(client, None)
        self._up.add(client)
        return True
