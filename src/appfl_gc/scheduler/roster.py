"""What all schedulers keep: who is up, who works on which dispatch, and which version is the current one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appfl_gc.protocol.schedule import Aggregate, Cancel, Dispatch, Release, UpdateId
from appfl_gc.protocol.wire import Json


@dataclass(frozen=True)
class Flight:
    """A dispatch under way, or the update that came of it.

    Attributes:
        update: which one.
        version: version of the global model that it started from.
    """

    update: UpdateId
    version: int

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.update.client


class Roster:
    """The clients of a run. Each is idle, busy or down, and has at most one dispatch that may still bring an update.

    All operations but ``aggregate`` take constant time.

    Args:
        clients: all of them, in configuration order.
        awaited: those that are not up yet.

    Attributes:
        clients: as given.
        idle: those that are up and without work, the longest idle first.
        busy: what the others that are up work on.
        version: the current version of the global model.
    """

    def __init__(self, clients: Iterable[str] = (), awaited: Iterable[str] = ()) -> None:
        self.clients = tuple(clients)
        missing = frozenset(awaited)
        self.idle: dict[str, None] = {client: None for client in self.clients if client not in missing}
        self.busy: dict[str, Flight] = {}
        self.version = 0
        self._lost: dict[str, Flight] = {}
        self._dispatches: dict[str, int] = {}
        self._place = {client: place for place, client in enumerate(self.clients)}

    def place(self, client: str) -> int:
        """Where ``client`` stands in configuration order."""
        return self._place[client]

    def dispatch(self, client: str, args: Mapping[str, Json] | None = None, *, at_least: int = 1) -> Dispatch:
        """Send the current version to ``client``, which is idle.

        The dispatch's number is above all earlier ones of this client and not below ``at_least``. What an earlier
        dispatch might still have brought is superseded.
        """
        number = max(self._dispatches.get(client, 0) + 1, at_least)
        del self.idle[client]
        self._lost.pop(client, None)
        self._dispatches[client] = number
        self.busy[client] = Flight(UpdateId(client, number), self.version)
        return Dispatch(client, number, self.version, args or {})

    def land(self, update: UpdateId) -> Flight | None:
        """The flight that ``update`` ends; its client is idle now, if it is up.

        None if nothing may come of it: of an unknown client, answered before, or superseded.
        """
        client = update.client
        for flights in (self.busy, self._lost):
            flight = flights.get(client)
            if flight is not None and flight.update == update:
                del flights[client]
                if flights is self.busy:
                    self.idle[client] = None
                return flight
        return None

    def went_down(self, client: str) -> None:
        """``client`` is not counted on any more; what it works on may still arrive."""
        self.idle.pop(client, None)
        flight = self.busy.pop(client, None)
        if flight is not None:
            self._lost[client] = flight

    def came_up(self, client: str) -> bool:
        """Whether ``client`` takes part and is idle now."""
        if client in self._place and client not in self.busy:
            self.idle.setdefault(client)
        return client in self.idle

    def aggregate(self, flights: Iterable[Flight]) -> Aggregate:
        """Fold these, in client order and each with the versions that it is behind."""
        ordered = sorted(flights, key=lambda flight: (self._place[flight.client], flight.update.dispatch))
        return Aggregate(tuple((flight.update, self.version - flight.version) for flight in ordered))

    def advance(self, version: int) -> Release:
        """``version`` is the current one now; no dispatch needs the one before it."""
        released, self.version = self.version, version
        return Release(released)

    def cancel_all(self) -> list[Cancel]:
        """Tell those that still work, in client order, that nobody waits for it."""
        flights = sorted(self.busy.values(), key=lambda flight: self._place[flight.client])
        return [Cancel(flight.client, flight.update.dispatch) for flight in flights]
