"""The courier: payloads move on its threads, and the event loop hears when they are there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial

from appfl_gc.aggregator.update_norm import check_norm
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.files import sync_file
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport, TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.calls import SEND
from appfl_gc.runner.flight import InFlight, Kept, Landing
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox, Landed, Moved, Noticed, Prepared, Told
from appfl_gc.runner.routes import Route, Routes
from appfl_gc.runner.run_directory import RunDirectory

ROUTES_AT_ONCE = 4
GRANTS_AT_ONCE = 8
LANDINGS_AT_ONCE = 4
TELL_EVERY = 1.0
"""Seconds between two reports of how far a transfer is."""
SILENT_FROM = 30.0
"""Seconds without a byte from which on a transfer is told of as silent."""
LAST_TRANSFERS = 10.0
"""Seconds that a run that ends gives to transfers, which hear of it at their next block."""
LAST_EVICTIONS = 15.0
"""Seconds that a run that ends gives to what is still to be evicted."""


class Courier:
    """Sends the global model, obtains grants, brings updates in, and lets payloads go.

    Args:
        routes: of every client.
        model: the global model's versions.
        arena: where updates land.
        directory: of the run.
        inbox: hears of everything that is done.
        stop: set when the run ends; transfers then end too.
        most_norm: L2 norm of an update that is not refused; None for any.
        durable: have each update on the disk before it counts as arrived. Without, a power failure may take those of
            the open round, which are then asked for again; where versions are made of other updates meanwhile, there
            is no way back.
    """

    def __init__(
        self,
        routes: Routes,
        model: GlobalModel,
        arena: Arena,
        directory: RunDirectory,
        inbox: Inbox,
        stop: threading.Event,
        most_norm: float | None = None,
        *,
        durable: bool = False,
    ) -> None:
        self._durable = durable
        self._directory = directory
        self._most_norm = most_norm
        self._routes = routes
        self._model = model
        self._arena = arena
        self._inbox = inbox
        self._stop = stop
        self._abandoned = False
        self._out = ThreadPoolExecutor(ROUTES_AT_ONCE, "appfl-gc-out")
        self._grants = ThreadPoolExecutor(GRANTS_AT_ONCE, "appfl-gc-grants")
        self._in = ThreadPoolExecutor(LANDINGS_AT_ONCE, "appfl-gc-in")
        self._away = ThreadPoolExecutor(1, "appfl-gc-away")
        self._ask = ThreadPoolExecutor(1, "appfl-gc-ask")
        self._marks = ThreadPoolExecutor(1, "appfl-gc-marks")
        self._arrivals: set[_Arrival] = set()
        self._asking: Future[None] | None = None
        self._moving: set[Future[None]] = set()
        self._watched: set[_Transfer] = set()
        threading.Thread(target=self._tell_of_silence, name="appfl-gc-silence", daemon=True).start()

    def prepare(self, calls: Sequence[tuple[Call, int]]) -> None:
        """Give calls their model and their grant. ``Prepared`` says how it went, for all on one route together.

        Args:
            calls: each with the version of the global model that it carries.
        """
        groups: dict[tuple[Route, int], list[Call]] = {}
        for call, version in calls:
            groups.setdefault((self._routes.of(call.identity.client), version), []).append(call)
        for (route, version), group in groups.items():
            self._move(self._out, partial(self._prepare, route, version, group))

    def land(self, landing: Landing) -> None:
        """Bring an update in; ``Landed`` says how it went."""
        arrival = _Arrival(UpdateId.of(landing.flight.call.identity))
        self._arrivals.add(arrival)
        self._move(self._in, partial(self._land, landing, arrival))

    def evict(self, client: str, reference: Ref) -> None:
        """Let a payload of ``client`` go."""
        self._let_go(lambda: self._routes.of(client).stores.evict(reference))

    def withdraw(self, client: str, grant: Mapping[str, Json]) -> None:
        """No payload of ``client`` will come, or is wanted, by ``grant``."""
        self._let_go(lambda: self._routes.of(client).stores.withdraw(grant))

    def remove(self, mailbox: ServerMailbox) -> None:
        """Nobody waits any more for the call beside which ``mailbox`` lies."""
        # Not behind evictions, which take their time: a site works until it is gone.
        self._marks.submit(self._try, mailbox.remove)

    def unmark(self, flight: InFlight) -> None:
        """Nobody waits for ``flight`` any more: its site, if it is still at it, stops."""
        if flight.mailbox is not None:
            self.remove(flight.mailbox)
            flight.mailbox = None

    def ask(self, flights: Sequence[InFlight]) -> None:
        """Look how far sites are; ``Told`` says what they told. Nothing happens while it is still being looked."""
        if self._asking is None or self._asking.done():
            self._asking = self._ask.submit(self._look, list(flights))

    def give_up(self, update: UpdateId) -> None:
        """Nobody waits for ``update`` any more: if it is on its way in, that ends."""
        for arrival in list(self._arrivals):
            if arrival.update == update:
                arrival.wanted = False

    def release(self, version: int, in_use: frozenset[int]) -> None:
        """See ``GlobalModel.release``."""
        for action in self._model.release(version, in_use):
            self._let_go(action)

    def abandon(self) -> None:
        """Another server has the run: nothing in the stores is touched any more."""
        self._abandoned = True

    def close(self) -> None:
        """End all transfers within seconds; then what is in the stores goes, as far as they answer."""
        if self._stop.is_set():
            return
        self._stop.set()
        for pool in (self._out, self._grants, self._in, self._ask):
            pool.shutdown(wait=False, cancel_futures=True)
        wait(set(self._moving), timeout=LAST_TRANSFERS)
        if self._abandoned:
            self._marks.shutdown(wait=False, cancel_futures=True)
            self._away.shutdown(wait=False, cancel_futures=True)
            return
        for action in self._model.release_all():
            self._let_go(action)
        last = [pool.submit(lambda: None) for pool in (self._marks, self._away)]
        wait(last, timeout=LAST_EVICTIONS)
        self._marks.shutdown(wait=False, cancel_futures=True)
        self._away.shutdown(wait=False, cancel_futures=True)

    def _look(self, flights: Sequence[InFlight]) -> None:
        for flight in flights:
            if self._stop.is_set() or flight.mailbox is None:
                continue
            with contextlib.suppress(AppflGcError, OSError):  # it is looked again
                progress = flight.mailbox.progress()
                if progress is not None:
                    self._inbox.put(Told(flight.call, progress))

    def _check_norm(self, landing: Landing) -> None:
        if self._most_norm is not None:
            model = self._model.path(landing.flight.version)
            check_norm(self._arena, landing.slot, model, self._model.trained, self._most_norm)

    def _move(self, pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        future = pool.submit(work)
        self._moving.add(future)
        future.add_done_callback(self._moving.discard)

    def _let_go(self, action: Callable[[], None]) -> None:
        self._away.submit(self._try, action)

    def _prepare(self, route: Route, version: int, calls: Sequence[Call]) -> None:
        try:
            with self._watch("", "sending the model", self._model.bytes_of(version)) as moved:
                model = self._model.reference(version, route, moved)
        except Exception as error:  # noqa: BLE001  it is told, and judged by the policy
            problem = _report(error)
            problem = replace(problem, message=f"The global model could not be sent. {problem.message}")
            self._inbox.put(tuple(Prepared(call, version, problem) for call in calls))
            return
        ready = [replace(call, payloads={"model": model}) for call in calls]
        granting = [self._grants.submit(self._granted, call, version, model) for call in ready]
        self._inbox.put(tuple(one.result() for one in granting))

    def _granted(self, call: Call, version: int, model: Ref) -> Prepared:
        """``call`` with its grant and its mailbox."""
        client, grant = call.identity.client, None
        try:
            grant = self._routes.grant(client, [] if call.channel == SEND else [model])
            args = {**call.args, "grant": grant}
            mailbox = self._routes.mailbox(client)
            if mailbox is not None:
                args["mailbox"] = mailbox.grant
            return Prepared(replace(call, args=args), version, None, mailbox)
        except Exception as error:  # noqa: BLE001  it is told, and judged by the policy
            if grant is not None:
                self.withdraw(client, grant)
            return Prepared(call, version, _report(error))

    def _land(self, landing: Landing, arrival: _Arrival) -> None:
        update, begun, problem = arrival.update, time.monotonic(), None
        client = update.client
        try:
            with self._watch(client, "receiving its update", landing.reference.size) as watched:

                def moved(done: int) -> None:
                    if not arrival.wanted:
                        raise TransferError("The update is not waited for any more.")
                    watched(done)

                stores, how = self._routes.of(client).stores, self._routes.update_of(client)
                self._arena.land(landing.slot, landing.reference, stores, how, moved)
                try:
                    self._check_norm(landing)
                    path = self._directory.kept_update(client, update.dispatch)
                    landing = replace(landing, kept=Kept(path, self._arena.keep(landing.slot, path)))
                    if self._durable:
                        sync_file(path)
                except BaseException:
                    self._arena.free(landing.slot)
                    raise
        except Exception as error:  # noqa: BLE001  as above
            problem = _report(error)
        self._arrivals.discard(arrival)
        self._inbox.put(Landed(landing, time.monotonic() - begun, problem))

    @contextlib.contextmanager
    def _watch(self, client: str, what: str, size: int) -> Iterator[Callable[[int], None]]:
        """Tell the inbox how far a transfer is, from time to time, and end it when the run ends."""
        transfer = _Transfer(client, what, size)
        self._watched.add(transfer)

        def moved(done: int) -> None:
            if self._stop.is_set():
                raise TransferError("The transfer was interrupted: the run ends.")
            transfer.done, transfer.moved_at = done, time.monotonic()
            if transfer.moved_at - transfer.told_at >= TELL_EVERY:
                self._tell(transfer, what)

        try:
            yield moved
        finally:
            self._watched.discard(transfer)

    def _tell(self, transfer: _Transfer, what: str) -> None:
        transfer.told_at = time.monotonic()
        self._inbox.put(Moved(transfer.client, what, transfer.done, transfer.size))

    def _tell_of_silence(self) -> None:
        while not self._stop.wait(SILENT_FROM / 3):
            for transfer in list(self._watched):
                silent = time.monotonic() - transfer.moved_at
                if silent >= SILENT_FROM:
                    self._tell(transfer, f"{transfer.what}, and nothing has moved for {silent:.0f} s")

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  nothing depends on it
            self._inbox.put(Noticed(str(_report(error))))


@dataclass(eq=False)
class _Arrival:
    """An update on its way in, from when that is asked for, and whether anybody waits for it."""

    update: UpdateId
    wanted: bool = True


@dataclass(eq=False)
class _Transfer:
    """A payload that moves: ``done`` of ``size`` bytes; when it last moved and was last told of, monotonic seconds."""

    client: str
    what: str
    size: int
    done: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    told_at: float = field(default_factory=time.monotonic)


def _report(error: Exception) -> ErrorReport:
    if isinstance(error, AppflGcError):
        return error.report
    if isinstance(error, OSError):
        return ErrorReport(ErrorClass.STORAGE, f"A payload could not be moved: {error}.")
    return ErrorReport(ErrorClass.INTERNAL, f"A payload could not be moved: {error!r}.")
