"""Rounds with a barrier: all who take part train the same version, then all updates are folded at once."""

from __future__ import annotations

import math
import random
from fractions import Fraction

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
    UpdateId,
)
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.roster import Flight, Roster
from appfl_gc.scheduler.settings import check_epochs


class SyncScheduler:
    """Synchronous rounds (McMahan et al. 2017, Algorithm 1).

    A round sends the current version to ``clients_per_round`` of the clients that are up, drawn without
    replacement from (seed, round). When each of them has answered, was refused or went down, the updates that
    arrived are folded, in configuration order and with staleness 0. A client that comes up waits for the next
    round. A round in which nobody delivered begins anew, with another draw, as soon as a client is up. An update
    of a client that went down counts while its round is open. A refusal that asks for it is made good by another
    client that is up and was not drawn for this round, if there is one: drawn by lot, too.

    On ``Stopping`` a round that is not complete is left as it is, so that a resumed run goes on with the updates
    that arrived and ends with the same bits.

    Args:
        num_global_epochs: rounds, at least 1.
        clients_per_round: how many clients a round draws: a whole number of at least 1, or a share of all clients
            in (0, 1], rounded up; None for all.
        seed: what the draws derive from.

    Raises:
        UserCodeError: if there is less than one round, or ``clients_per_round`` is something else.
    """

    counts = Counts.ROUNDS
    waits_for_all = True

    def __init__(
        self, num_global_epochs: int, clients_per_round: int | float | None = None, seed: int = 0
    ) -> None:
        check_epochs(num_global_epochs, "round")
        _check_clients_per_round(clients_per_round)
        self._rounds = num_global_epochs
        self._clients_per_round = clients_per_round
        self._seed = seed
        self._roster = Roster()
        self._round = 1
        self._lots = random.Random()
        self._arrived: list[Flight] = []
        self._left_out: frozenset[str] = frozenset()
        self._drawn: set[str] = set()
        self._finished = False

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""
        if self._finished:
            return []
        match event:
            case Started():
                self._roster = Roster(event.clients, event.awaited)
                return self._begin(1)
            case Arrived():
                return self._answered(event.meta.update, arrived=True)
            case Refused():
                return self._answered(event.update, arrived=False, replace=event.replace)
            case ClientDown():
                self._roster.went_down(event.client)
                return self._end_or_try_again()
            case ClientUp():
                return self._came_up(event.client)
            case Aggregated():
                return self._aggregated(event.version)
            case Stopping():
                self._finished = True
                return [Finish()]
            case _:
                return []

    def _begin(self, round_: int) -> list[Action]:
        self._round = round_
        self._lots = random.Random(derive_seed(self._seed, round_, "", "sampling"))
        return self._dispatch()

    def _dispatch(self) -> list[Action]:
        """Draw from the clients that are up, all of which are idle, and send them the current version."""
        roster = self._roster
        candidates = sorted(roster.idle, key=roster.place)
        drawn = self._draw(candidates)
        self._drawn = set(drawn)
        left_out = [client for client in candidates if client not in drawn]
        told, self._left_out = self._left_out, frozenset(left_out)
        return [
            *(roster.dispatch(client, at_least=self._round) for client in candidates if client in drawn),
            *(Hold(client, "waits to be drawn") for client in left_out if client not in told),
        ]

    def _draw(self, candidates: list[str]) -> frozenset[str]:
        wanted = self._clients_per_round
        if isinstance(wanted, float):
            # As the user wrote the share: 0.07 of 100 clients are 7, and not 8.
            wanted = math.ceil(Fraction(str(wanted)) * len(self._roster.clients))
        if wanted is None or wanted >= len(candidates):
            return frozenset(candidates)
        return frozenset(self._lots.sample(candidates, wanted))

    def _answered(self, update: UpdateId, *, arrived: bool, replace: bool = False) -> list[Action]:
        flight = self._roster.land(update)
        if flight is None or flight.version != self._roster.version:
            return []
        if arrived:
            self._arrived.append(flight)
        return self._replace() if replace else self._end_or_try_again()

    def _replace(self) -> list[Action]:
        """Send the current version to one more client, drawn from those that this round has not drawn yet."""
        spare = sorted(self._roster.idle.keys() - self._drawn, key=self._roster.place)
        if not spare:
            return self._end_or_try_again()
        client = self._lots.choice(spare)
        self._drawn.add(client)
        self._left_out -= {client}
        return [self._roster.dispatch(client, at_least=self._round)]

    def _end_or_try_again(self) -> list[Action]:
        """Once nobody works any more: fold what arrived, or begin the round anew if nothing did."""
        if self._roster.busy:
            return []
        if self._arrived:
            return [self._roster.aggregate(self._arrived)]
        return self._dispatch()

    def _came_up(self, client: str) -> list[Action]:
        if not self._roster.came_up(client):
            return []
        if self._roster.busy:
            return [Hold(client, f"waits for round {self._round + 1}")]
        return self._end_or_try_again()

    def _aggregated(self, version: int) -> list[Action]:
        released = self._roster.advance(version)
        self._arrived.clear()
        if self._round == self._rounds:
            self._finished = True
            return [released, Finish()]
        return [released, *self._begin(self._round + 1)]


def _check_clients_per_round(value: int | float | None) -> None:
    if value is None:
        return
    if isinstance(value, float):
        NumberRange(above=0.0, at_most=1.0).check("clients_per_round", value)
    else:
        NumberRange(at_least=1, whole=True).check("clients_per_round", value)
