"""Rounds with a barrier: every client trains the same version, then all updates are folded at once."""

from __future__ import annotations

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
    Aggregated,
    Arrived,
    ClientDown,
    ClientUp,
    Dispatch,
    Event,
    Finish,
    Hold,
    Refused,
    Release,
    Started,
    Stopping,
    UpdateId,
)
from appfl_gc.scheduler.base import Counts


class SyncScheduler:
    """Synchronous rounds (McMahan et al. 2017, Algorithm 1, with all clients in each round).

    A round sends the current version to every client that is up; its dispatch number is the round, from 1. When
    each of them has answered, was refused or went down, the updates that arrived are folded, in configuration
    order and with staleness 0. A client that comes up again joins the next round, or this one if nobody is
    working on it. A round in which nobody delivered waits: whether to go on is for the failure policy to say,
    by bringing a client up or by stopping. On ``Stopping`` a round that is not complete is left as it is, so
    that a resumed run goes on with the updates that arrived and ends with the same bits.

    Args:
        num_global_epochs: rounds, at least 1.
        same_init_model: all clients start from the server's model; False is not supported yet.

    Raises:
        UserCodeError: if there is less than one round.
        NotSupportedError: if ``same_init_model`` is False.
    """

    counts = Counts.ROUNDS
    waits_for_all = True

    def __init__(self, num_global_epochs: int, same_init_model: bool = True) -> None:
        if num_global_epochs < 1:
            raise UserCodeError(f"num_global_epochs is {num_global_epochs}; at least one round is needed.")
        if not same_init_model:
            raise NotSupportedError(
                "same_init_model: False (clients start from models of their own) is not supported yet."
            )
        self._rounds = num_global_epochs
        self._clients: tuple[str, ...] = ()
        self._up: set[str] = set()
        self._round = 1
        self._version = 0
        self._busy: set[str] = set()
        self._arrived: set[str] = set()
        self._aggregating = False
        self._stopping = False
        self._finished = False

    def step(self, now: float, event: Event) -> list[Action]:
        """See ``Scheduler.step``."""
        if self._finished:
            return []
        match event:
            case Started():
                self._clients, self._up = event.clients, set(event.clients)
                return self._dispatch(event.clients)
            case Arrived():
                return self._answered(event.meta.update, arrived=True)
            case Refused():
                return self._answered(event.update, arrived=False)
            case ClientDown():
                self._up.discard(event.client)
                self._busy.discard(event.client)
                return self._maybe_aggregate()
            case ClientUp():
                return self._came_up(event.client)
            case Aggregated():
                return self._aggregated(event.version)
            case Stopping():
                self._stopping = True
                return [] if self._aggregating else self._finish()
            case _:
                return []

    def _dispatch(self, clients: tuple[str, ...]) -> list[Action]:
        self._busy.update(clients)
        return [Dispatch(client, self._round, self._version) for client in clients]

    def _answered(self, update: UpdateId, *, arrived: bool) -> list[Action]:
        # An update of a client that was given up meanwhile still counts while its round is open.
        late = update.dispatch != self._round or self._aggregating or self._stopping
        if late or update.client in self._arrived or update.client not in self._clients:
            return []
        self._busy.discard(update.client)
        if arrived:
            self._arrived.add(update.client)
        return self._maybe_aggregate()

    def _maybe_aggregate(self) -> list[Action]:
        if self._busy or self._aggregating or self._stopping or not self._arrived:
            return []
        self._aggregating = True
        updates = tuple(
            (UpdateId(client, self._round), 0) for client in self._clients if client in self._arrived
        )
        return [Aggregate(updates)]

    def _came_up(self, client: str) -> list[Action]:
        if client not in self._clients or self._stopping:
            return []
        was_up = client in self._up
        self._up.add(client)
        if not self._busy and not self._arrived:
            return self._dispatch((client,))
        return [] if was_up else [Hold(client, f"joins round {self._round + 1}")]

    def _aggregated(self, version: int) -> list[Action]:
        if not self._aggregating:
            return []
        released = Release(self._version)
        self._version = version
        self._aggregating = False
        self._arrived.clear()
        if self._stopping or self._round == self._rounds:
            return [released, *self._finish()]
        self._round += 1
        return [released, *self._dispatch(tuple(client for client in self._clients if client in self._up))]

    def _finish(self) -> list[Action]:
        self._finished = True
        return [Finish()]
