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
        self._newest = ""

    def of(self, round_: int) -> str:
        """The group for calls of ``round_``; beyond ``MOST_OPEN`` groups, rounds share the newest."""
        if round_ not in self._group_of:
            if len(set(self._group_of.values())) < MOST_OPEN:
                self._newest = str(uuid.uuid4())
            self._group_of[round_] = self._newest
        return self._group_of[round_]

    def ended(self, in_use: Collection[str]) -> list[str]:
        """Groups that are over: not the newest and not ``in_use``. They are forgotten."""
        over = {group for group in self._group_of.values() if group != self._newest and group not in in_use}
        self._group_of = {round_: group for round_, group in self._group_of.items() if group not in over}
        return list(over)

    def all(self) -> list[str]:
        """Every group that has not ended."""
        return list(set(self._group_of.values()))
