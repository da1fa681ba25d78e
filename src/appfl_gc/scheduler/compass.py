"""Clients of different speed get different numbers of local steps, so that groups of them deliver together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import (
    Action,
    Aggregated,
    Arrived,
    ClientDown,
    ClientUp,
    Dispatch,
    Event,
    Finish,
    Hold,
    Refused,
    Started,
    Stopping,
    Timer,
    UpdateMeta,
    WakeAt,
)
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.measured import LONGEST, moving_average, seconds_per_step
from appfl_gc.scheduler.overdue import Overdue
from appfl_gc.scheduler.quota import Quota
from appfl_gc.scheduler.roster import Flight, Roster
from appfl_gc.scheduler.settings import check_epochs, number, whole_number


@dataclass(frozen=True)
class CompassSettings:
    """What ``CompassScheduler`` is told; the paper's names in brackets.

    Attributes:
        max_local_steps: most local steps of a dispatch (Q_max), at least 1.
        min_local_steps: fewest local steps of a dispatch (Q_min), at least 1.
        speed_momentum: weight of a new measurement in a client's average speed, in [0, 1].
        latest_time_factor: how many times its expected duration a group waits for its members (lambda), at
            least 1.

    Raises:
        UserCodeError: if ``min_local_steps`` is above ``max_local_steps``.
    """

    max_local_steps: int = whole_number(at_least=1)
    min_local_steps: int = whole_number(at_least=1)
    speed_momentum: float = number(at_least=0, at_most=1)
    latest_time_factor: float = number(at_least=1)

    def __post_init__(self) -> None:
        if self.min_local_steps > self.max_local_steps:
            raise UserCodeError(
                f"min_local_steps is {self.min_local_steps}, above max_local_steps, which is"
                f" {self.max_local_steps}."
            )


@dataclass(frozen=True)
class Pace:
    """How fast a client is, in averages of what was measured.

    Attributes:
        step: seconds of a local step (the paper's S).
        overhead: seconds from dispatch to arrival that do not depend on the number of steps: queue, transfer,
            loading.
    """

    step: float
    overhead: float

    def duration(self, steps: int) -> float:
        """Seconds from a dispatch of ``steps`` to its arrival, at most ``LONGEST``."""
        return min(self.overhead + steps * self.step, LONGEST)

    def steps_within(self, seconds: float) -> int:
        """The whole steps that a dispatch has time for; negative where not even the overhead fits."""
        return math.floor((seconds - self.overhead) / self.step)


@dataclass(eq=False)
class Group:
    """Clients that should arrive together.

    Attributes:
        arrival: second of the run at which they are expected (the paper's T_a).
        latest: second of the run up to which they are waited for (T_max).
        fastest: the quickest pace among those that joined.
        training: members that have not arrived.
        arrived: updates of those that have.
    """

    arrival: float
    latest: float
    fastest: Pace
    training: set[str] = field(default_factory=set)
    arrived: list[Flight] = field(default_factory=list)

    def members(self) -> Iterator[str]:
        """All of them."""
        yield from self.training
        yield from (flight.client for flight in self.arrived)


class CompassScheduler:
    """FedCompass (Li et al., ICLR 2024, arXiv:2309.14675, Algorithms 1 and 2).

    A client's first dispatch has ``max_local_steps``; its first update is folded when it comes and tells its pace.
    From then on it joins the group for whose expected arrival it can do the most steps, or founds a group. When
    all members of a group have arrived, or at its latest time, their updates are folded together with those of
    the general buffer, and they are given new work, the fastest first. The update of a client that misses its
    group goes to the general buffer, and the client goes on in another group at once.

    Two things are refined. Pace is measured in seconds of training, so that time in a batch queue is not taken for
    slowness; what a turn-around has beside it is predicted by an average of its own. And a group closes by the
    clock, not when the next client happens to arrive.

    Exactly ``num_global_epochs`` updates are folded. No dispatch goes out that could not be one of them; who gets
    none for that reason is held, and gets work if one of the others fails or is overdue (see ``Overdue``). Who
    still works when the last update has come is cancelled. So that few updates wait, the general buffer is also
    folded when it would get a second update of one client, when a group closes to which nobody came, and when
    nobody works any more.

    Args:
        num_global_epochs: client updates, at least 1.
        settings: see there.

    Raises:
        UserCodeError: if there is less than one update.
    """

    counts = Counts.UPDATES
    waits_for_all = False

    def __init__(self, num_global_epochs: int, settings: CompassSettings) -> None:
        check_epochs(num_global_epochs, "client update")
        self._settings = settings
        self._roster = Roster()
        self._quota = Quota(num_global_epochs)
        self._overdue = Overdue()
        self._paces: dict[str, Pace] = {}
        self._groups: dict[Group, None] = {}
        self._group_of: dict[str, Group] = {}
        self._general: dict[str, Flight] = {}
        self._ready: dict[str, None] = {}  # idle and free of a group
        self._folding = 0
        self._returning: list[str] = []  # ready once the fold is done
        self._finished = False

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""
        if self._finished:
            return []
        match event:
            case Started():
                self._roster = Roster(event.clients, event.awaited)
                return self._give_work(self._roster.idle, now)
            case Arrived():
                return self._arrived(event.meta, now)
            case Refused():
                flight = self._roster.land(event.update)
                return self._left(flight.client, [flight.client], now) if flight else []
            case ClientDown():
                self._roster.went_down(event.client)
                self._ready.pop(event.client, None)
                return self._left(event.client, [], now)
            case ClientUp():
                return self._came_up(event.client, now)
            case Timer():
                due = [group for group in self._groups if group.latest <= now]
                return self._close(due) or self._give_work([], now)
            case Aggregated():
                return self._aggregated(event.version, now)
            case Stopping():
                self._finished = True
                return [Finish()]

    # What clients do

    def _arrived(self, meta: UpdateMeta, now: float) -> list[Action]:
        flight = self._roster.land(meta.update)
        if flight is None:
            return []
        client = flight.client
        first = client not in self._paces
        self._overdue.ended(client)
        self._overdue.measure(meta)
        self._measure(client, meta)
        self._quota.waiting += 1
        if self._quota.complete:
            on_time = (update for group in self._groups for update in group.arrived)
            return self._fold([flight, *on_time, *self._take_general()])
        group = self._group_of.get(client)
        if group is not None:
            group.training.remove(client)
            group.arrived.append(flight)
            return [] if group.training else self._close([group])
        if first:
            return self._fold([flight])
        if client in self._general:
            return self._fold([flight, *self._take_general()])
        self._general[client] = flight
        return self._give_work([client], now)

    def _left(self, client: str, newcomers: Sequence[str], now: float) -> list[Action]:
        """``client`` does not deliver what it was sent, so its group may be complete without it."""
        self._overdue.ended(client)
        group = self._group_of.get(client)
        if group is not None and client in group.training:
            group.training.remove(client)
            del self._group_of[client]
            if not group.training:
                folding = self._close([group], newcomers)
                if folding:
                    return folding
        return self._give_work(newcomers, now)

    def _came_up(self, client: str, now: float) -> list[Action]:
        if not self._roster.came_up(client):
            return []
        if client in self._group_of:
            return [Hold(client, "its group is not complete")]
        return self._give_work([client], now)

    def _measure(self, client: str, meta: UpdateMeta) -> None:
        """Average in what the dispatch cost, if that tells how fast the client is."""
        step, overhead = seconds_per_step(meta), meta.timing.overhead
        if step is None:
            return
        known = self._paces.get(client) or Pace(step, min(overhead, LONGEST))
        weight = self._settings.speed_momentum
        self._paces[client] = Pace(
            moving_average(known.step, step, weight), moving_average(known.overhead, overhead, weight)
        )

    # Folding

    def _close(self, groups: Sequence[Group], newcomers: Sequence[str] = ()) -> list[Action]:
        """Fold what members of ``groups`` delivered, and the general buffer; whoever has not come is late."""
        if not groups:
            return []
        updates = self._take_general()
        for group in groups:
            del self._groups[group]
            for client in group.members():
                del self._group_of[client]
            updates += group.arrived
        return self._fold(updates, newcomers) if updates else []

    def _take_general(self) -> list[Flight]:
        updates = list(self._general.values())
        self._general.clear()
        return updates

    def _fold(self, updates: Sequence[Flight], newcomers: Sequence[str] = ()) -> list[Action]:
        """Fold ``updates``; then their clients and ``newcomers`` get work."""
        self._folding = len(updates)
        self._returning = [*(update.client for update in updates), *newcomers]
        return [self._roster.aggregate(updates)]

    def _aggregated(self, version: int, now: float) -> list[Action]:
        released = self._roster.advance(version)
        self._quota.fold(self._folding)
        if self._quota.done:
            self._finished = True
            return [released, *self._roster.cancel_all(), Finish()]
        fastest_first = sorted(self._returning, key=self._by_pace)
        return [released, *self._give_work(fastest_first, now)]

    def _by_pace(self, client: str) -> tuple[float, int]:
        pace = self._paces.get(client)
        return (pace.step if pace else math.inf, self._roster.place(client))

    # Giving work

    def _give_work(self, newcomers: Iterable[str], now: float) -> list[Action]:
        """Dispatch to who is ready, the longest ready first, as long as the updates can be used."""
        roster = self._roster
        idle = dict.fromkeys(c for c in newcomers if c in roster.idle and c not in self._group_of)
        self._ready.update(idle)
        actions: list[Action] = []
        while self._ready and self._quota.places(len(roster.busy), self._overdue, now) > 0:
            client = next(iter(self._ready))
            del self._ready[client]
            actions += self._assign(client, now)
            group = self._group_of.get(client)
            self._overdue.began(client, now, group.arrival - now if group else 0.0)
        actions += [
            Hold(client, "the other clients bring the last updates")
            for client in idle
            if client in self._ready
        ]
        if self._ready:
            actions += self._overdue.wake(now)
        if self._general and not roster.busy:
            actions += self._fold(self._take_general())
        return actions

    def _assign(self, client: str, now: float) -> list[Action]:
        """Dispatch to ``client`` as many steps as bring it to a group on time (AssignGroup)."""
        pace = self._paces.get(client)
        if pace is None:
            return [self._dispatch(client, self._settings.max_local_steps)]
        group, steps = self._join(pace, now)
        founded: list[Action] = []
        if group is None:
            group, steps = self._found(pace, now)
            founded = [WakeAt(group.latest)]
        group.training.add(client)
        group.fastest = min(group.fastest, pace, key=lambda each: each.step)
        self._group_of[client] = group
        return [self._dispatch(client, steps), *founded]

    def _join(self, pace: Pace, now: float) -> tuple[Group | None, int]:
        """The open group for whose arrival there is time for the most steps, and how many (JoinGroup)."""
        best: Group | None = None
        most = self._settings.min_local_steps - 1
        for group in self._groups:
            steps = pace.steps_within(group.arrival - now)
            if most < steps <= self._settings.max_local_steps:
                best, most = group, steps
        return best, most

    def _found(self, pace: Pace, now: float) -> tuple[Group, int]:
        """A new group, and the steps of the client that founds it (CreateGroup).

        The group should arrive when the fastest member of an open group can be back from its next dispatch, so
        that this member can join it.
        """
        least, most = self._settings.min_local_steps, self._settings.max_local_steps
        candidates = [
            pace.steps_within(group.latest + group.fastest.duration(most) - now)
            for group in self._groups
            if now < group.latest
        ]
        steps = max((steps for steps in candidates if steps <= most), default=most)
        steps = max(steps, least)
        duration = pace.duration(steps)
        group = Group(now + duration, now + duration * self._settings.latest_time_factor, pace)
        self._groups[group] = None
        return group, steps

    def _dispatch(self, client: str, steps: int) -> Dispatch:
        return self._roster.dispatch(client, {"local_steps": steps})
