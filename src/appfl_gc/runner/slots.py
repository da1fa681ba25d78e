"""Which slot of the arena an update goes into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Slots:
    """A client's update goes into the slot of its place in the configuration if that is free.

    Rows in client order at equal distances are folded as they lie.

    Args:
        clients: in configuration order.
        count: of all slots.
    """

    def __init__(self, clients: Sequence[str], count: int) -> None:
        self._own = {client: slot for slot, client in enumerate(clients)}
        self._free = set(range(count))

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return not self._free

    def take(self, client: str) -> int:
        """A slot for an update of ``client``, which is not free any more."""
        own = self._own[client]
        slot = own if own in self._free else min(self._free)
        self._free.remove(slot)
        return slot

    def give_back(self, slots: Iterable[int]) -> None:
        """These are free again."""
        self._free.update(slots)
