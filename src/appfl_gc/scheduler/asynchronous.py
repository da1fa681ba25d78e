"""No barrier: whoever delivers gets the current version at once and goes on."""

from __future__ import annotations

from appfl_gc.protocol.schedule import (
    Action,
    Aggregated,
    Arrived,
    ClientDown,
    ClientUp,
    Event,
    Finish,
    Hold,
    Refused,
    Started,
    Stopping,
    UpdateId,
)
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.quota import Quota
from appfl_gc.scheduler.roster import Flight, Roster
from appfl_gc.scheduler.settings import check, check_epochs


class AsyncScheduler:
    """Asynchronous federated optimisation (Xie et al. 2019, Algorithm 1), with or without a buffer.

    Each update is folded when it comes, or, with a buffer of K (FedBuff, Nguyen et al. 2022, Algorithm 1), when K
    are there; the last buffer may be smaller. Staleness is the number of versions since the one that the client
    started from. A client that has delivered gets the current version at once.

    Exactly ``num_global_epochs`` updates are folded. No dispatch goes out that could not be one of them; who gets
    none for that reason is held, and gets work if one of the others fails, the longest idle first.

    Args:
        num_global_epochs: client updates, at least 1.
        updates_per_aggregation: K, at least 1.

    Raises:
        UserCodeError: if either is not a whole number of at least 1.
    """

    counts = Counts.UPDATES
    waits_for_all = False

    def __init__(self, num_global_epochs: int, updates_per_aggregation: int = 1) -> None:
        check_epochs(num_global_epochs, "client update")
        check("updates_per_aggregation", updates_per_aggregation, whole=True, at_least=1)
        self._buffer_size = updates_per_aggregation
        self._roster = Roster()
        self._quota = Quota(num_global_epochs)
        self._buffer: list[Flight] = []
        self._finished = False

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""
        if self._finished:
            return []
        match event:
            case Started():
                self._roster = Roster(event.clients, event.awaited)
                return self._give_work(*self._roster.idle)
            case Arrived():
                return self._arrived(event.meta.update)
            case Refused():
                return self._give_work(event.update.client) if self._roster.land(event.update) else []
            case ClientDown():
                self._roster.went_down(event.client)
                return self._give_work()
            case ClientUp():
                return self._give_work(event.client) if self._roster.came_up(event.client) else []
            case Aggregated():
                return self._aggregated(event.version)
            case Stopping():
                self._finished = True
                return [Finish()]
            case _:
                return []

    def _arrived(self, update: UpdateId) -> list[Action]:
        flight = self._roster.land(update)
        if flight is None:
            return []
        self._buffer.append(flight)
        self._quota.waiting += 1
        if len(self._buffer) >= self._buffer_size or self._quota.complete:
            return [self._roster.aggregate(self._buffer)]
        return self._give_work(flight.client)

    def _aggregated(self, version: int) -> list[Action]:
        released = self._roster.advance(version)
        trained = dict.fromkeys(flight.client for flight in self._buffer)
        self._quota.fold(len(self._buffer))
        self._buffer.clear()
        if self._quota.done:
            self._finished = True
            return [released, *self._roster.cancel_all(), Finish()]
        return [released, *self._give_work(*trained)]

    def _give_work(self, *newcomers: str) -> list[Action]:
        """Send the current version to idle clients as long as their updates can be used; hold the newcomers else."""
        roster = self._roster
        actions: list[Action] = []
        while roster.idle and self._quota.places(len(roster.busy)) > 0:
            actions.append(roster.dispatch(next(iter(roster.idle))))
        held = [client for client in newcomers if client in roster.idle]
        return [*actions, *(Hold(client, "the other clients bring the last updates") for client in held)]
