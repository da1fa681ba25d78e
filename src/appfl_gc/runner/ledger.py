"""What the server knows of each client's part in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appfl_gc.aggregator.base import Cohort
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.calls import HELLO_ROUND


class Ledger:
    """Which of a client's updates the server has, and how many examples each client said it has.

    Args:
        clients: all clients of the run.
    """

    def __init__(self, clients: Sequence[str]) -> None:
        self._clients = tuple(clients)
        self._accepted: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        self._sample_sizes: dict[str, int] = {}

    def restore(self, accepted: Mapping[str, int], folded: Mapping[str, int]) -> None:
        """Go on with an earlier server's books: each client's last dispatch that was accepted and folded."""
        self._accepted.update(accepted)
        self._folded.update(folded)

    def met(self, client: str, sample_size: int) -> None:
        """``client`` has answered the greeting."""
        self._sample_sizes[client] = sample_size

    def knows(self, client: str) -> bool:
        """Whether ``client`` has answered a greeting."""
        return client in self._sample_sizes

    def accept(self, update: UpdateId) -> None:
        """``update`` lies in a slot of the arena."""
        self._accepted[update.client] = max(update.dispatch, self.accepted(update.client))

    def fold(self, update: UpdateId) -> None:
        """``update`` is part of a version that is on the disk."""
        self._folded[update.client] = max(update.dispatch, self.folded(update.client))

    def accepted(self, client: str) -> int:
        """The last dispatch of ``client`` whose update the server has; the greeting's number if it has none."""
        return self._accepted.get(client, HELLO_ROUND)

    def folded(self, client: str) -> int:
        """The last dispatch of ``client`` whose update the site may forget."""
        return self._folded.get(client, HELLO_ROUND)

    @property
    def cohort(self) -> Cohort:
        """All clients; who has not said yet how many examples it has counts as the mean of the others."""
        known = list(self._sample_sizes.values())
        return Cohort(len(self._clients), round(sum(known) * len(self._clients) / max(1, len(known))))
