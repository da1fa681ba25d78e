"""The courier: payloads move on its threads, and the event loop hears when they are there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

from appfl_gc.payload.arena import Arena
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.calls import SEND
from appfl_gc.runner.flight import Landing
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox, Landed, Moved, Noticed, Prepared
from appfl_gc.runner.routes import Routes

GRANTS_AT_ONCE = 8
LANDINGS_AT_ONCE = 4
TELL_EVERY = 1.0
"""Seconds between two reports of how far a transfer is."""
LAST_EVICTIONS = 15.0
"""Seconds that a run that ends gives to what is still to be evicted."""


class Courier:
    """Sends the global model, obtains grants, brings updates in, and lets payloads go.

    Args:
        routes: of every client.
        model: the global model's versions.
        arena: where updates land.
        inbox: hears of everything that is done.
        stop: set when the run ends; transfers then end too.
    """

    def __init__(
        self, routes: Routes, model: GlobalModel, arena: Arena, inbox: Inbox, stop: threading.Event
    ) -> None:
        self._routes = routes
        self._model = model
        self._arena = arena
        self._inbox = inbox
        self._stop = stop
        self._out = ThreadPoolExecutor(1, "appfl-gc-out")
        self._grants = ThreadPoolExecutor(GRANTS_AT_ONCE, "appfl-gc-grants")
        self._in = ThreadPoolExecutor(LANDINGS_AT_ONCE, "appfl-gc-in")
        self._away = ThreadPoolExecutor(1, "appfl-gc-away")

    def prepare(self, calls: Sequence[tuple[Call, int]]) -> None:
        """Give calls their model and their grant; ``Prepared`` says how it went, for all of them together.

        Args:
            calls: each with the version of the global model that it carries.
        """
        self._out.submit(self._prepare, list(calls))

    def land(self, landing: Landing) -> None:
        """Bring an update in; ``Landed`` says how it went."""
        self._in.submit(self._land, landing)

    def evict(self, client: str, reference: Ref) -> None:
        """Let a payload of ``client`` go."""
        self._away.submit(self._try, lambda: self._routes.of(client).stores.evict(reference))

    def withdraw(self, client: str, grant: Mapping[str, Json]) -> None:
        """No payload of ``client`` will come, or is wanted, by ``grant``."""
        self._away.submit(self._try, lambda: self._routes.of(client).stores.withdraw(grant))

    def release(self, version: int, in_use: frozenset[int]) -> None:
        """See ``GlobalModel.release``."""
        for action in self._model.release(version, in_use):
            self._away.submit(self._try, action)

    def close(self) -> None:
        """End all transfers within seconds; what is to be evicted goes first, as far as the stores answer."""
        for action in self._model.release_all():
            self._away.submit(self._try, action)
        last = self._away.submit(lambda: None)
        wait([last], timeout=LAST_EVICTIONS)
        self._stop.set()
        for pool in (self._out, self._grants, self._in, self._away):
            pool.shutdown(wait=True, cancel_futures=True)
        # What the stores still do, when they are swept, is no transfer.
        self._stop.clear()

    def _prepare(self, calls: Sequence[tuple[Call, int]]) -> None:
        # The grants of clients are obtained while the models of others still go out.
        items: list[Prepared | tuple[Call, int, Future[dict[str, Json]]]] = []
        for call, version in calls:
            client = call.identity.client
            try:
                watch = self._watch("", "sending the model", self._model.bytes_of(version))
                model = self._model.reference(version, self._routes.of(client), watch)
            except Exception as error:  # noqa: BLE001  it is told, and judged by the policy
                items.append(Prepared(call, version, _report(error)))
                continue
            read = [] if call.channel == SEND else [model]
            granting = self._grants.submit(self._routes.grant, client, read)
            items.append((replace(call, payloads={"model": model}), version, granting))
        self._inbox.put(tuple(item if isinstance(item, Prepared) else _granted(*item) for item in items))

    def _land(self, landing: Landing) -> None:
        client, begun, problem = landing.flight.call.identity.client, time.monotonic(), None
        try:
            self._arena.land(
                landing.slot,
                landing.reference,
                self._routes.of(client).stores,
                self._routes.update_of(client),
                self._watch(client, "receiving its update", landing.reference.size),
            )
        except Exception as error:  # noqa: BLE001  as above
            problem = _report(error)
        self._inbox.put(Landed(landing, time.monotonic() - begun, problem))

    def _watch(self, client: str, what: str, size: int) -> Callable[[int], None]:
        told = time.monotonic()

        def moved(done: int) -> None:
            nonlocal told
            if time.monotonic() - told >= TELL_EVERY:
                told = time.monotonic()
                self._inbox.put(Moved(client, what, done, size))

        return moved

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except AppflGcError as error:
            self._inbox.put(Noticed(str(error)))


def _granted(call: Call, version: int, granting: Future[dict[str, Json]]) -> Prepared:
    """``call`` with its grant, once that is there."""
    try:
        return Prepared(replace(call, args={**call.args, "grant": granting.result()}), version, None)
    except Exception as error:  # noqa: BLE001  it is told, and judged by the policy
        return Prepared(call, version, _report(error))


def _report(error: Exception) -> ErrorReport:
    if isinstance(error, AppflGcError):
        return error.report
    if isinstance(error, OSError):
        return ErrorReport(ErrorClass.STORAGE, f"A payload could not be moved: {error}.")
    return ErrorReport(ErrorClass.INTERNAL, f"A payload could not be moved: {error!r}.")
