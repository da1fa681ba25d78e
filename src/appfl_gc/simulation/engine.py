"""The virtual clock: the same events and actions as in a run, without waiting for any."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
    Aggregated,
    Arrived,
    Cancel,
    ClientDown,
    ClientUp,
    Dispatch,
    Event,
    Finish,
    Refused,
    Release,
    Started,
    Timer,
    UpdateId,
    UpdateMeta,
    WakeAt,
)
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.simulation.learner import Learner, Work
from appfl_gc.simulation.profile import ClientProfile, checked
from appfl_gc.simulation.summary import ClientTotals, Summary
from appfl_gc.simulation.timeline import Fate, FoldRow, Record, WorkRow, unrecorded


@dataclass(frozen=True, eq=False)
class _Flight:
    """A dispatch that is out: it goes out at ``begin`` and comes back after ``timing``, or is found lost then."""

    work: Work
    begin: float
    timing: Timing
    lost: bool


class _Edge:
    """A client may go down or come up."""

    def __init__(self, client: str) -> None:
        self.client = client


_TIMER = Timer()
_FRUITLESS = 100
"""So many events for each client without an update end the simulation: none will ever arrive."""


def simulate(
    scheduler: Scheduler,
    profiles: Sequence[ClientProfile],
    learner: Learner,
    *,
    seed: int = 0,
    until: float = math.inf,
    record: Record = unrecorded,
) -> Summary:
    """Run ``scheduler`` over clients like ``profiles`` until it finishes or virtual second ``until``.

    A dispatch goes through queue, overhead, local steps and transfer; then its update arrives, or it is refused if
    it was lost. A client that goes down loses what it works on. Aggregation takes no virtual time. Where the
    scheduler waits for all clients, the run begins when each has been up once. Things that happen at the same
    virtual second come in the order in which they were foreseen, so that equal arguments give equal results.

    Args:
        scheduler: a fresh one.
        profiles: the clients, in configuration order.
        learner: trains and folds.
        seed: of all durations and losses.
        until: when to stop at the latest, in virtual seconds.
        record: hears of each dispatch whose fate is clear, and of each new version.

    Raises:
        UserCodeError: if the profiles make no federation, or the scheduler does what it must not: it sends work to
            a client that is busy or down, folds what is not there, or leaves nothing to wait for.
    """
    simulation = _Simulation(scheduler, checked(profiles), learner, seed, record)
    simulation.run(until)
    return simulation.summary


class _Simulation:
    """One run of the virtual clock."""

    def __init__(
        self,
        scheduler: Scheduler,
        profiles: Sequence[ClientProfile],
        learner: Learner,
        seed: int,
        record: Record,
    ) -> None:
        self._scheduler = scheduler
        self._profiles: Mapping[str, ClientProfile] = {profile.client: profile for profile in profiles}
        self._learner = learner
        self._seed = seed
        self._record = record
        self._now = 0.0
        self._foreseen: list[tuple[float, int, _Flight | _Edge | Timer]] = []
        self._number = 0
        self._timers = 0
        self._flights: dict[str, _Flight] = {}
        self._down: set[str] = set()
        self._waiting: dict[UpdateId, UpdateMeta] = {}
        self._version = 0
        self._trained_on: Counter[int] = Counter()
        self._released: set[int] = set()
        self._since_arrival = 0
        self.summary = Summary({profile.client: ClientTotals() for profile in profiles})

    def run(self, until: float) -> None:
        """See ``simulate``."""
        self._begin(until)
        while not self.summary.finished and self._now < until:
            self._check_not_stuck()
            at, _, what = self._foreseen[0]
            if at > until:
                self._now = until
                break
            heapq.heappop(self._foreseen)
            if isinstance(what, _Flight):
                self._land(at, what)
            elif isinstance(what, _Edge):
                self._edge(at, what.client)
            else:
                self._timers -= 1
                self._feed(at, what)
        self._end()

    def _begin(self, until: float) -> None:
        profiles = self._profiles.values()
        if self._scheduler.waits_for_all:
            begin = max(profile.availability.first_up() for profile in profiles)
            if begin >= until:
                self._now = until
                return
        else:
            begin = 0.0
        down = [profile.client for profile in profiles if not profile.availability.is_up(begin)]
        for profile in profiles:
            self._foresee_edge(profile, begin)
        clients = tuple(self._profiles)
        if self._scheduler.waits_for_all:
            self._feed(begin, Started(clients))
            for client in down:
                self._goes_down(client)
        else:
            self._down.update(down)
            self._feed(begin, Started(clients, tuple(down)))

    def _check_not_stuck(self) -> None:
        waits = self._flights or self._timers
        if not self._foreseen or not (waits or self._down):
            raise UserCodeError(
                f"At virtual second {self._now:g} the scheduler left nothing to wait for: no client works, no timer is "
                "set, and no client will come up."
            )
        self._since_arrival += 1
        if self._since_arrival > _FRUITLESS * (len(self._profiles) + _FRUITLESS):
            raise UserCodeError(
                f"No update has arrived for long at virtual second {self._now:g}: the scheduler gives no work, or "
                "every client goes down or loses its work before it is done.",
                "Make the windows in which clients are up longer than a dispatch takes.",
            )

    # What happens

    def _foresee(self, at: float, what: _Flight | _Edge | Timer) -> None:
        heapq.heappush(self._foreseen, (at, self._number, what))
        self._number += 1

    def _foresee_edge(self, profile: ClientProfile, after: float) -> None:
        at = profile.availability.next_edge(after)
        if not math.isinf(at):
            self._foresee(at, _Edge(profile.client))

    def _land(self, at: float, flight: _Flight) -> None:
        if self._flights.get(flight.work.client) is not flight:
            return  # cancelled, or its client went down
        self._now = at
        work = flight.work
        self._close(flight, Fate.LOST if flight.lost else Fate.ARRIVED)
        if flight.lost:
            self._forget_unused(work.version)
            self._feed(at, Refused(work.update, "The dispatch was lost."))
            return
        self._since_arrival = 0
        trained = self._learner.train(work)
        meta = UpdateMeta(
            work.update, work.version, trained.sample_size, work.steps, flight.timing, trained.numbers
        )
        self._waiting[work.update] = meta
        self._forget_unused(work.version)
        self._feed(at, Arrived(meta))

    def _edge(self, at: float, client: str) -> None:
        profile = self._profiles[client]
        self._foresee_edge(profile, at)
        self._now = at
        up = profile.availability.is_up(at)
        if up and client in self._down:
            self._down.remove(client)
            self._feed(at, ClientUp(client))
        elif not up and client not in self._down:
            self._goes_down(client)

    def _goes_down(self, client: str) -> None:
        self._down.add(client)
        flight = self._flights.get(client)
        if flight is not None:
            self._close(flight, Fate.DOWN)
            self._forget_unused(flight.work.version)
        self._feed(self._now, ClientDown(client))
        if flight is not None:
            self._feed(self._now, Refused(flight.work.update, "The client went down."))

    # The scheduler

    def _feed(self, at: float, event: Event) -> None:
        """Tell the scheduler and do what it answers, until it has heard of every version that this leads to."""
        self._now = at
        following: Event | None = event
        while following is not None and not self.summary.finished:
            self.summary.events += 1
            actions = self._scheduler.step(at, following)
            following = None
            for action in actions:
                following = self._act(action) or following

    def _act(self, action: Action) -> Aggregated | None:
        match action:
            case Dispatch():
                self._dispatch(action)
            case Aggregate():
                return self._aggregate(action)
            case WakeAt():
                self._timers += 1
                self._foresee(max(action.at, self._now), _TIMER)
            case Release():
                self._released.add(action.version)
                self._forget_unused(action.version)
            case Cancel():
                flight = self._flights.get(action.client)
                if flight is not None and flight.work.dispatch == action.dispatch:
                    self._close(flight, Fate.CANCELLED)
                    self._forget_unused(flight.work.version)
            case Finish():
                self.summary.finished = True
        return None

    def _dispatch(self, action: Dispatch) -> None:
        profile = self._profiles.get(action.client)
        if profile is None or action.client in self._flights or action.client in self._down:
            state = "no client" if profile is None else "busy" if action.client in self._flights else "down"
            raise UserCodeError(
                f"The scheduler sends dispatch {action.dispatch} to {action.client!r}, which is {state}."
            )
        steps = self._learner.steps(action.client, action.args)
        work = Work(action.client, action.dispatch, action.version, action.args, steps)
        timing = profile.timing(self._seed, action.dispatch, steps)
        flight = _Flight(work, self._now, timing, profile.loses(self._seed, action.dispatch))
        self._flights[action.client] = flight
        self._trained_on[action.version] += 1
        self._foresee(self._now + timing.turn_around, flight)

    def _aggregate(self, action: Aggregate) -> Aggregated:
        missing = [update for update, _ in action.updates if update not in self._waiting]
        if missing or not action.updates:
            what = f"dispatch {missing[0].dispatch} of {missing[0].client}" if missing else "no update"
            raise UserCodeError(f"The scheduler folds {what}: not arrived, or folded already.")
        metas = [self._waiting.pop(update) for update, _ in action.updates]
        staleness = [behind for _, behind in action.updates]
        numbers = self._learner.fold(metas, staleness)
        self._version += 1
        row = FoldRow(
            self._now,
            self._version,
            tuple(meta.update for meta in metas),
            tuple(staleness),
            sum(meta.steps for meta in metas),
            numbers,
        )
        self.summary.fold(row)
        self._record(row)
        return Aggregated(self._version)

    # The books

    def _close(self, flight: _Flight, fate: Fate) -> None:
        """The fate of a dispatch is clear at this moment."""
        work, timing = flight.work, flight.timing
        del self._flights[work.client]
        self._trained_on[work.version] -= 1
        left = math.inf if fate is Fate.ARRIVED else self._now - flight.begin
        parts = []
        for seconds in (timing.queue, timing.compute - timing.train, timing.train, timing.transfer):
            parts.append(min(seconds, left))
            left -= parts[-1]
        queue, overhead, train, transfer = parts
        row = WorkRow(
            work.client,
            work.dispatch,
            work.version,
            work.steps,
            flight.begin,
            self._now,
            queue,
            overhead,
            train,
            transfer,
            fate,
        )
        self.summary.clients[work.client].add(row)
        self._record(row)

    def _forget_unused(self, version: int) -> None:
        if self._trained_on[version] <= 0:
            del self._trained_on[version]
            if version in self._released:
                self._released.remove(version)
                self._learner.forget(version)

    def _end(self) -> None:
        for flight in list(self._flights.values()):
            self._close(flight, Fate.UNFINISHED)
        self.summary.seconds = self._now
        for client, totals in self.summary.clients.items():
            totals.close(self._now, self._profiles[client].availability.down_seconds(self._now))
