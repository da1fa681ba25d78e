"""Rounds of a fixed length on batch systems: each client gets as many steps as its queue leaves time for."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    WakeAt,
)
from appfl_gc.protocol.wire import Json
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.measured import moving_average, seconds_per_step
from appfl_gc.scheduler.roster import Flight, Roster
from appfl_gc.scheduler.settings import check_epochs, number, whole_number

SHORTEST_BUDGET = 0.5
"""Seconds of training that a client is given even if its queue takes all of ``t_sync``."""


@dataclass(frozen=True)
class QueueSettings:
    """What ``QueueScheduler`` is told; times in seconds.

    Attributes:
        t_sync: a round's length, above 0.
        lr_base: learning rate of the client with the fewest steps, above 0.
        warm_up_steps: local steps of a first dispatch, and the fewest of any.
        alpha_compute: weight of a new measurement in a client's average time for a step, in [0, 1].
        alpha_queue: the same for its queue time, where ``beta_queue`` is not given.
        beta_queue: weight of a new measurement in a client's average queue time, in [0, 1].
        safety_buffer: margin of the budget, where ``theta`` is not given.
        theta: what is kept free of a round's length for everything but queue and training.
        admission_tolerance: how far past ``t_sync`` a round waits, as a share of it.
        alpha_admission: how far a queue time may be above its estimate, as a share of ``t_sync``.
        q_init: first estimate of a queue time.
    """

    t_sync: float = number(3600.0, above=0)
    lr_base: float = number(0.01, above=0)
    warm_up_steps: int = whole_number(20, at_least=1)
    alpha_compute: float = number(0.5, at_least=0, at_most=1)
    alpha_queue: float = number(0.5, at_least=0, at_most=1)
    beta_queue: float | None = number(None, at_least=0, at_most=1)
    safety_buffer: float = number(60.0, at_least=0)
    theta: float | None = number(None, at_least=0)
    admission_tolerance: float = number(0.15, at_least=0)
    alpha_admission: float = number(0.2, at_least=0)
    q_init: float = number(2.0, at_least=0)

    @property
    def queue_weight(self) -> float:
        """``beta_queue``, or what stands in for it."""
        return self.alpha_queue if self.beta_queue is None else self.beta_queue

    @property
    def margin(self) -> float:
        """``theta``, or what stands in for it."""
        return self.safety_buffer if self.theta is None else self.theta


@dataclass(frozen=True)
class Estimate:
    """What is expected of a client, in averages of what was measured; seconds.

    Attributes:
        queue: from a dispatch to its start, transfers included.
        step: of a local step; None before the first is measured.
    """

    queue: float
    step: float | None = None


class QueueScheduler:
    """FedQueue (Li et al. 2026, arXiv:2605.02125).

    Round r sends the current version to all idle clients. One that queues for q seconds and takes c seconds for a
    step, both by estimate, gets max(warm_up_steps, floor(J / c)) local steps for its budget of
    J = max(0.5, t_sync - q - theta) seconds, and the learning rate lr_base * (fewest steps of a client) /
    (its own steps), so that nobody's contribution grows with its speed. A first dispatch has ``warm_up_steps`` and
    ``lr_base``.

    An update is admitted to the round that it was made in unless its queue time was above the estimate by more
    than alpha_admission * t_sync; then it waits for the next round. A round ends when all of its clients have
    answered, or (1 + admission_tolerance) * t_sync after it began, with what is there: its own admitted updates,
    those that waited for it, and those that came late from earlier rounds, each with its staleness. If there are
    none, those that would wait for the next round are folded; if nothing has come at all, the round ends with the
    first that comes. Whoever still works at the end of a round goes on.

    A round in which nobody delivered begins anew as soon as a client is up. The last round folds all that is there
    and cancels the rest.

    Args:
        num_global_epochs: rounds, at least 1.
        settings: see there.

    Raises:
        UserCodeError: if there is less than one round.
    """

    counts = Counts.ROUNDS
    waits_for_all = True

    def __init__(self, num_global_epochs: int, settings: QueueSettings) -> None:
        check_epochs(num_global_epochs, "round")
        self._rounds = num_global_epochs
        self._settings = settings
        self._roster = Roster()
        self._estimates: dict[str, Estimate] = {}
        self._steps: dict[str, int] = {}  # of each client's latest dispatch
        self._round = 1
        self._cut_off = math.inf
        self._awaited: set[str] = set()  # of this round
        self._due: list[Flight] = []  # folded at the end of this round
        self._late: list[Flight] = []  # of this round, for the next one
        self._finished = False

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""
        if self._finished:
            return []
        match event:
            case Started():
                self._roster = Roster(event.clients, event.awaited)
                return self._dispatch(now)
            case Arrived():
                return self._arrived(event.meta, now)
            case Refused():
                if self._roster.land(event.update) is None:
                    return []
                self._awaited.discard(event.update.client)
                return self._end_or_try_again(now)
            case ClientDown():
                self._roster.went_down(event.client)
                self._awaited.discard(event.client)
                return self._end_or_try_again(now)
            case ClientUp():
                return self._came_up(event.client, now)
            case Timer():
                return self._end_or_try_again(now)
            case Aggregated():
                return self._aggregated(event.version, now)
            case Stopping():
                self._finished = True
                return [Finish()]

    # A round begins

    def _dispatch(self, now: float) -> list[Action]:
        """Send the current version to all idle clients."""
        roster = self._roster
        clients = sorted(roster.idle, key=roster.place)
        if not clients:
            return []
        self._steps.update({client: self._plan(client) for client in clients})
        fewest = min(self._steps[client] for client in (*clients, *roster.busy))
        self._cut_off = now + (1 + self._settings.admission_tolerance) * self._settings.t_sync
        self._awaited.update(clients)
        dispatches: list[Action] = []
        for client in clients:
            steps = self._steps[client]
            args: dict[str, Json] = {
                "local_steps": steps,
                "learning_rate": self._settings.lr_base * fewest / steps,
            }
            dispatches.append(roster.dispatch(client, args, at_least=self._round))
        return [*dispatches, WakeAt(self._cut_off)]

    def _plan(self, client: str) -> int:
        """Local steps for which the client's budget is enough by estimate."""
        settings, estimate = self._settings, self._estimates.get(client)
        if estimate is None or estimate.step is None:
            return settings.warm_up_steps
        budget = max(SHORTEST_BUDGET, settings.t_sync - estimate.queue - settings.margin)
        return max(settings.warm_up_steps, math.floor(budget / estimate.step))

    # It goes on

    def _arrived(self, meta: UpdateMeta, now: float) -> list[Action]:
        flight = self._roster.land(meta.update)
        if flight is None:
            return []
        client, settings = flight.client, self._settings
        queue = meta.timing.queue + meta.timing.transfer
        expected = self._estimates.get(client, Estimate(settings.q_init))
        on_time = queue <= expected.queue + settings.alpha_admission * settings.t_sync
        of_this_round = flight.version == self._roster.version
        (self._due if on_time or not of_this_round else self._late).append(flight)
        self._awaited.discard(client)
        step, known = seconds_per_step(meta), expected.step
        if step is not None and known is not None:
            step = moving_average(known, step, settings.alpha_compute)
        self._estimates[client] = Estimate(
            moving_average(expected.queue, queue, settings.queue_weight), known if step is None else step
        )
        return self._end_or_try_again(now)

    def _came_up(self, client: str, now: float) -> list[Action]:
        if not self._roster.came_up(client):
            return []
        if self._awaited:
            return [Hold(client, f"waits for round {self._round + 1}")]
        return self._end_or_try_again(now)

    # It ends

    def _end_or_try_again(self, now: float) -> list[Action]:
        """At the cut-off, or once nobody of this round works: fold what is due, or begin anew if nothing came."""
        if self._awaited and now < self._cut_off:
            return []
        if not self._due or self._round == self._rounds:
            self._due, self._late = self._due + self._late, []
        if self._due:
            return [self._roster.aggregate(self._due)]
        return [] if self._awaited else self._dispatch(now)

    def _aggregated(self, version: int, now: float) -> list[Action]:
        released = self._roster.advance(version)
        if self._round == self._rounds:
            self._finished = True
            return [released, *self._roster.cancel_all(), Finish()]
        self._round += 1
        self._awaited.clear()
        self._due, self._late = self._late, []
        return [released, *self._dispatch(now)]
