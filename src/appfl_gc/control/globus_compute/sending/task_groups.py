"""Task groups at the service: one a round, of our own choice."""

from __future__ import annotations

import uuid
from collections.abc import Collection

# Each group with open calls costs a connection; asynchronous runs have calls of many rounds in flight.
MOST_OPEN = 16


class TaskGroups:
    """Chooses the group of each round and says which have ended. Not thread safe."""

    def __init__(self) -> None:
        self._group_of: dict[int, str] = {}
        self._known: set[str] = set()
        self._newest = ""

    def of(self, round_: int) -> str:
        """The group for calls of ``round_``; beyond ``MOST_OPEN`` groups, rounds share the newest."""
        if round_ not in self._group_of:
            if len(self._known) < MOST_OPEN:
                self._newest = str(uuid.uuid4())
                self._known.add(self._newest)
            self._group_of[round_] = self._newest
        return self._group_of[round_]

    def replace(self, old: str, new: str) -> None:
        """The service wants ``new`` in place of ``old``."""
        self._known.discard(old)
        self._known.add(new)
        self._group_of = {round_: new if group == old else group for round_, group in self._group_of.items()}
        if self._newest == old:
            self._newest = new

    def ended(self, in_use: Collection[str]) -> set[str]:
        """Groups that are over: not the newest and not ``in_use``. They are forgotten."""
        over = {group for group in self._known if group != self._newest and group not in in_use}
        self._known -= over
        self._group_of = {round_: group for round_, group in self._group_of.items() if group not in over}
        return over
