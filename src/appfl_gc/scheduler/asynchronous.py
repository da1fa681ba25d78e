"""No barrier: whoever delivers gets the current version at once and goes on."""

from __future__ import annotations

from appfl_gc.protocol.number_range import NumberRange
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
    Timer,
    UpdateMeta,
)
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.overdue import Overdue
from appfl_gc.scheduler.quota import Quota
from appfl_gc.scheduler.roster import Flight, Roster
from appfl_gc.scheduler.settings import check_epochs


class AsyncScheduler:
    """Asynchronous federated optimisation (Xie et al. 2019, Algorithm 1), with or without a buffer.

    Each update is folded when it comes, or, with a buffer of K (FedBuff, Nguyen et al. 2022, Algorithm 1), when K
    are there; the last buffer may be smaller. Staleness is the number of versions since the one that the client
    started from. A client that has delivered gets the current version at once.

    Exactly ``num_global_epochs`` updates are folded. No dispatch goes out that could not be one of them; who gets
    none for that reason is held, and gets work if one of the others fails or is overdue (see ``Overdue``), the
    longest idle first. Who still works when the last update has come is cancelled.

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
        NumberRange(at_least=1, whole=True).check("updates_per_aggregation", updates_per_aggregation)
        self._buffer_size = updates_per_aggregation
        self._roster = Roster()
        self._quota = Quota(num_global_epochs)
        self._overdue = Overdue()
        self._buffer: list[Flight] = []
        self._finished = False

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""
        if self._finished:
            return []
        match event:
            case Started():
                self._roster = Roster(event.clients, event.awaited)
                return self._give_work(now, *self._roster.idle)
            case Arrived():
                return self._arrived(event.meta, now)
            case Refused():
                if self._roster.land(event.update) is None:
                    return []
                self._overdue.ended(event.update.client)
                return self._give_work(now, event.update.client)
            case ClientDown():
                self._roster.went_down(event.client)
                self._overdue.ended(event.client)
                return self._give_work(now)
            case ClientUp():
                return self._give_work(now, event.client) if self._roster.came_up(event.client) else []
            case Timer():
                return self._give_work(now)
            case Aggregated():
                return self._aggregated(event.version, now)
            case Stopping():
                self._finished = True
                return [Finish()]

    def _arrived(self, meta: UpdateMeta, now: float) -> list[Action]:
        flight = self._roster.land(meta.update)
        if flight is None:
            return []
        self._overdue.ended(flight.client)
        self._overdue.measure(meta)
        self._buffer.append(flight)
        self._quota.waiting += 1
        if len(self._buffer) >= self._buffer_size or self._quota.complete:
            return [self._roster.aggregate(self._buffer)]
        return self._give_work(now, flight.client)

    def _aggregated(self, version: int, now: float) -> list[Action]:
        released = self._roster.advance(version)
        trained = dict.fromkeys(flight.client for flight in self._buffer)
        self._quota.fold(len(self._buffer))
        self._buffer.clear()
        if self._quota.done:
            self._finished = True
            return [released, *self._roster.cancel_all(), Finish()]
        return [released, *self._give_work(now, *trained)]

    def _give_work(self, now: float, *newcomers: str) -> list[Action]:
        """Send the current version to idle clients as long as their updates can be used; hold the newcomers else."""
        roster = self._roster
        actions: list[Action] = []
        while roster.idle and self._quota.places(len(roster.busy), self._overdue, now) > 0:
            client = next(iter(roster.idle))
            actions.append(roster.dispatch(client))
            self._overdue.began(client, now)
        held = [client for client in newcomers if client in roster.idle]
        actions += [Hold(client, "the other clients bring the last updates") for client in held]
        return [*actions, *self._overdue.wake(now)] if roster.idle else actions
