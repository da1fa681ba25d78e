"""The event loop: the one place that knows scheduler, aggregator, control plane, stores and policy."""

from __future__ import annotations

import json
import logging
import queue
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.config import ClientConfig
from appfl_gc.control.plane import CallState
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport, UserCodeError, VersionError
from appfl_gc.protocol.reference import HELD
from appfl_gc.protocol.reply import Reply
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
    Hold,
    Refused,
    Release,
    Started,
    Stopping,
    Timer,
    UpdateId,
    WakeAt,
)
from appfl_gc.protocol.schedule_json import step_to_json
from appfl_gc.protocol.wire import WireError, as_count, as_line
from appfl_gc.runner.calls import HELLO_ROUND, CallFactory
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.ending import Ending
from appfl_gc.runner.events import ClientChanged, ClientFailed, ClientState, Outcome, PayloadMoving
from appfl_gc.runner.flight import InFlight
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import (
    Answered,
    Inbox,
    Interrupted,
    Item,
    Landed,
    Moved,
    Noticed,
    Prepared,
    Progressed,
)
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.journal import STEP, Journal
from appfl_gc.runner.ledger import Ledger
from appfl_gc.runner.outgoing import Outgoing
from appfl_gc.runner.policy.old import FailurePolicy, Verdict
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.rounds import Rounds
from appfl_gc.runner.routes import Routes
from appfl_gc.runner.timers import Timers
from appfl_gc.scheduler.base import Counts, Scheduler

GREETING_SECONDS = 30.0
"""How long clients that say nothing of themselves are waited for where the scheduler can begin without them."""

LONGEST_WAIT = 3600.0
"""Seconds that the event loop waits at a time: a timer may be set for any time."""
NAMED = 10
"""Clients that a log line names."""

_SHOWN_AS: Mapping[CallState, ClientState] = MappingProxyType(
    {
        CallState.SENDING: ClientState.SENT,
        CallState.WAITING_FOR_LOGIN: ClientState.NO_LOGIN,
        CallState.WAITING_FOR_ENDPOINT: ClientState.OFFLINE,
        CallState.WAITING_FOR_NODES: ClientState.QUEUED,
        CallState.RUNNING: ClientState.WORKING,
    }
)


@dataclass(frozen=True)
class Parts:
    """What a run is made of; whoever made it closes it."""

    clients: Mapping[str, ClientConfig]
    calls: CallFactory
    inbox: Inbox
    dispatcher: Dispatcher
    routes: Routes
    arena: Arena
    scheduler: Scheduler
    aggregator: Aggregator | UserClassAggregator
    policy: FailurePolicy
    model: GlobalModel
    courier: Courier
    outgoing: Outgoing
    intake: Intake
    rounds: Rounds
    journal: Journal
    recorder: Recorder


class FederatedRun:
    """Drives one run from the first hello to the last aggregation."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._start = time.monotonic()
        self._ledger = Ledger(tuple(parts.clients))
        self._held_up: set[str] = set()
        self._timers = Timers()
        self._heard_at = 0.0
        self._started = False
        self.ending = Ending()

    def execute(self) -> None:
        """Run until the scheduler finishes, too few clients are left, or somebody interrupts."""
        while not self._parts.inbox.empty():  # interrupted while it was set up
            self._next()
        if self.ending.outcome is None:
            self._greet()
        self._begin()
        while self.ending.outcome is None:
            self._next()

    @property
    def now(self) -> float:
        """Seconds of run."""
        return time.monotonic() - self._start

    # The inbox

    def _greet(self) -> None:
        """Say hello to every client and wait for the answers; nothing is trained before.

        Where the scheduler does not need all clients at once, those that wait for a login, an endpoint or nodes are
        not waited for. What would fail again ends the run here, with the reasons of all clients in one error.
        """
        parts, patient = self._parts, self._parts.scheduler.waits_for_all
        for client in parts.clients.values():
            parts.outgoing.greet(parts.calls.hello(client))
        until = self.now + GREETING_SECONDS
        while not self.ending.interrupted:
            missing = parts.dispatcher.busy if patient else parts.dispatcher.busy - self._held_up
            if not missing or not (patient or self.now < until):
                break
            self._next(None if patient else until)
        if self.ending.error is not None and len(self.ending.set_aside) > 1:
            every = "\n".join(str(error) for error in self.ending.set_aside.values())
            self.ending.error = replace(self.ending.error, message=every, hint="", frames=())

    def _begin(self) -> None:
        """Tell the scheduler who takes part; who has not answered yet joins later."""
        parts = self._parts
        active = tuple(client for client in parts.clients if client in parts.policy.active)
        awaited = tuple(client for client in active if client in parts.dispatcher.busy)
        if awaited and self.ending.outcome is None:
            names = ", ".join(awaited[:NAMED]) + (" and others" if len(awaited) > NAMED else "")
            parts.recorder.log(
                f"The run begins with {len(active) - len(awaited)} clients; {names} join later."
            )
        self._started = True
        self._feed(Started(active, awaited))

    def _next(self, until: float | None = None) -> None:
        """Wait for one thing to happen, at most until second ``until`` of the run, and deal with it.

        A timer that is due comes before whatever else has happened.

        Raises:
            UserCodeError: if nothing can happen any more: the scheduler left no call and no timer.
        """
        if not (self._timers or self._parts.dispatcher.busy) and self._parts.inbox.empty():
            raise UserCodeError(
                "The scheduler left nothing to wait for: no client works and no timer is set."
            )
        ends = [at for at in (self._timers.next, until) if at is not None]
        item = self._wait(min(ends) - self.now if ends else None)
        for at in self._timers.take_due(self.now):
            self._feed(Timer(), at)
        match item:
            case Interrupted():
                self._interrupted(item)
            case Progressed():
                self._progressed(item)
            case Answered():
                self._answered(item)
            case Landed():
                self._landed(item)
            case Moved():
                self._parts.recorder.tell(PayloadMoving(item.client, item.what, item.done, item.size))
            case Noticed():
                self._parts.recorder.log(item.message, logging.WARNING)
            case tuple():
                self._prepared(item)

    def _wait(self, seconds: float | None) -> Item | None:
        """What happens next, at most ``seconds`` from now; None if that is nothing."""
        timeout = None if seconds is None else min(max(0.0, seconds), LONGEST_WAIT)
        try:
            return self._parts.inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def _interrupted(self, item: Interrupted) -> None:
        self._parts.recorder.log(f"{item.signal}: the run ends; what is done is saved.", logging.WARNING)
        self.ending.interrupted = True
        self.ending.be(Outcome.INTERRUPTED)
        if self._started:
            try:
                self._parts.scheduler.step(max(self.now, self._heard_at), Stopping())
            except AppflGcError as error:  # the run ends as it was asked to
                self._parts.recorder.log(str(error), logging.ERROR)

    def _progressed(self, item: Progressed) -> None:
        if not self._parts.dispatcher.note(item):
            return
        identity, state = item.progress.call.identity, _SHOWN_AS[item.progress.state]
        if state is ClientState.OFFLINE and not item.progress.detail:
            state = ClientState.SENT  # the endpoint has only not taken it yet
        if identity.round == HELLO_ROUND and state in (ClientState.SENT, ClientState.WORKING):
            state = ClientState.CONNECTING
        if state in (ClientState.NO_LOGIN, ClientState.OFFLINE, ClientState.QUEUED):
            self._held_up.add(identity.client)
        else:
            self._held_up.discard(identity.client)
        if state in (ClientState.NO_LOGIN, ClientState.OFFLINE):
            self._parts.recorder.log(f"Client {identity.client}: {item.progress.detail}", logging.WARNING)
        self._parts.recorder.tell(
            ClientChanged(identity.client, state, identity.round, detail=item.progress.detail)
        )

    def _prepared(self, items: Sequence[Prepared]) -> None:
        """Calls have their payloads, or some have not."""
        for item in items:
            if item.error is not None:
                self._failed(InFlight(item.call, time.monotonic(), item.version), item.error)
        if self.ending.outcome is None:
            self._parts.outgoing.send_prepared([item for item in items if item.error is None], self.now)

    def _answered(self, item: Answered) -> None:
        flight = self._parts.dispatcher.take(item)
        if flight is None:
            return
        error, reply = item.error, item.reply
        if reply is not None:
            self._parts.recorder.client_lines(flight.call.identity.client, reply.log)
            if error is None:
                error = self._take_in(flight, reply, item.at)
        if error is not None:
            held = reply is not None and any(ref.scheme == HELD for ref in reply.payloads.values())
            self._failed(flight, error, held)

    def _take_in(self, flight: InFlight, reply: Reply, at: float) -> ErrorReport | None:
        """Take a good reply in; what is wrong with it, if it is not good after all."""
        client, greeting = flight.call.identity.client, flight.call.identity.round == HELLO_ROUND
        if not greeting and self._parts.intake.full:
            raise UserCodeError(
                "The scheduler keeps more than two updates for each client without folding any."
            )
        try:
            if greeting:
                self._met(flight, reply)
                self._parts.dispatcher.done(client)
            else:
                self._parts.courier.land(self._parts.intake.begin(flight, reply, at))
        except WireError as error:
            return ErrorReport(ErrorClass.PROTOCOL, str(error))
        except AppflGcError as error:
            return error.report
        if greeting and self._started:
            self._feed(ClientUp(client))
        return None

    def _landed(self, item: Landed) -> None:
        """An update is in its slot, or could not be brought there."""
        parts, landing = self._parts, item.landing
        client = landing.flight.call.identity.client
        if item.error is not None:
            parts.intake.give_up(landing)
            if item.error.error_class is ErrorClass.STORAGE:
                # This machine's disk: no client can help it, and all updates stay where they are.
                self.ending.be(Outcome.FAILED, item.error)
                return
            if item.error.error_class is ErrorClass.UPDATE_REFUSED:
                parts.courier.evict(client, landing.reference)
            # Where others run the store, the site has a copy of its own.
            held = parts.routes.of(client).stores.remote and landing.reference.scheme != InlineStore.scheme
            self._failed(landing.flight, item.error, held)
            return
        meta = parts.intake.accept(landing, item.seconds, self.now)
        parts.dispatcher.done(client)
        self._ledger.accept(meta.update)
        for grant in parts.intake.unused_grants(meta.update, landing.reference):
            parts.courier.withdraw(client, grant)
        self._feed(Arrived(meta))

    def _met(self, flight: InFlight, reply: Reply) -> None:
        parts, values, client = self._parts, reply.values, flight.call.identity.client
        if values.get("torch") is not True:
            raise VersionError("The site has no torch, so it can't train.", "pip install torch at the site.")
        size = as_count(values.get("sample_size"), "The sample size")
        threads = as_count(values.get("threads"), "The number of threads")
        parts.calls.threads[client] = threads
        self._ledger.met(client, size)
        policy = as_line(values.get("policy"), "The site's policy")
        place = as_line(values.get("working_directory"), "The site's working directory")
        environment = as_line(json.dumps(values.get("environment")), "The environment", 4000)
        parts.journal.append(
            self.now,
            "hello",
            client=client,
            sample_size=size,
            threads=threads,
            policy=policy,
            environment=environment,
        )
        parts.recorder.logger.info("Client %s: user code runs in %s. %s", client, place, policy)
        parts.recorder.tell(ClientChanged(client, ClientState.READY, detail=f"{size} samples"))

    # Failures

    def _failed(self, flight: InFlight, error: ErrorReport, held: bool = False) -> None:
        """Do what the policy says. ``held``: the site has the update and can send it again."""
        parts, identity = self._parts, flight.call.identity
        greeting = identity.round == HELLO_ROUND
        # What the site still has is worth another try, whatever kept it from being sent.
        kind = ErrorClass.TRANSFER if held else error.error_class
        verdict = parts.policy.failed(identity.client, kind, identity.attempt, not self._started)
        retried = verdict is Verdict.RETRY
        parts.journal.append(
            self.now,
            "failed",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            error_class=error.error_class.value,
            message=error.message,
            verdict=verdict.value,
        )
        parts.recorder.tell(ClientFailed(identity.client, identity.round, error, final=not retried))
        if retried:
            again = parts.calls.again(flight.call, error.error_class, held)
            parts.recorder.tell(ClientChanged(identity.client, ClientState.RETRYING, identity.round))
            if greeting:
                parts.outgoing.greet_again(again, self.now)
            else:
                parts.outgoing.request([(again, flight.version)])
            return
        parts.dispatcher.done(identity.client)
        for grant in parts.intake.unused_grants(UpdateId(identity.client, identity.round), None):
            parts.courier.withdraw(identity.client, grant)
        named = replace(error, message=f"Client {identity.client}: {error.message}")
        self.ending.set_aside[identity.client] = named
        parts.rounds.set_aside(identity.client)
        parts.recorder.tell(
            ClientChanged(identity.client, ClientState.SET_ASIDE, identity.round, detail=error.message)
        )
        if verdict is Verdict.END_RUN:
            self.ending.be(Outcome.FAILED, named)
        elif self._started:
            # Down first: a refusal may complete the round, and the next one must go without this client.
            self._feed(ClientDown(identity.client))
            if not greeting:
                self._feed(Refused(UpdateId(identity.client, identity.round), error.message))

    # The scheduler

    def _feed(self, event: Event, due: float = 0.0) -> None:
        """Tell the scheduler and do what it answers; nothing is done any more once the run has ended.

        Event, time and actions are journaled, so that the journal replays to the same actions. Time never goes back,
        and is not before ``due``.
        """
        if self.ending.outcome is not None:
            return
        self._heard_at = max(round(self.now, 6), self._heard_at, due)
        actions = self._parts.scheduler.step(self._heard_at, event)
        self._parts.journal.append(
            self._heard_at,
            STEP,
            now=self._heard_at,
            event=step_to_json(event),
            actions=[step_to_json(action) for action in actions],
        )
        ready: list[tuple[Call, int]] = []
        sent: set[str] = set()
        for action in actions:
            if isinstance(action, Dispatch):
                self._check_free(action.client, sent)
                sent.add(action.client)
                ready.append((self._call_of(action, first=not ready), action.version))
            else:
                self._parts.outgoing.request(ready)
                ready = []
                self._act(action)
        self._parts.outgoing.request(ready)

    def _act(self, action: Action) -> None:
        match action:
            case Aggregate():
                self._aggregate(action)
            case Release():
                self._parts.courier.release(action.version, self._parts.dispatcher.in_use())
            case WakeAt():
                self._timers.set(action.at)
            case Hold():
                self._parts.recorder.tell(
                    ClientChanged(action.client, ClientState.WAITING, detail=action.why)
                )
            case Cancel():
                self._parts.journal.append(self.now, "cancel", client=action.client, round=action.dispatch)
            case Finish():
                self.ending.be(Outcome.PARTIAL if self.ending.set_aside else Outcome.FINISHED)

    def _check_free(self, client: str, sent: Set[str]) -> None:
        """Raise ``UserCodeError`` if ``client`` can't get work: it takes no part, works, or is among ``sent``."""
        if client not in self._parts.policy.active:
            raise UserCodeError(f"The scheduler dispatched to client {client!r}, which takes no part.")
        if client in self._parts.dispatcher.busy or client in sent:
            raise UserCodeError(f"The scheduler dispatched to client {client!r}, which still works.")

    def _call_of(self, action: Dispatch, first: bool) -> Call:
        """The call of ``action``, without model and grant; ``first`` of those that go out together."""
        parts = self._parts
        if first and not parts.dispatcher.busy:
            if parts.scheduler.counts is Counts.ROUNDS:
                parts.rounds.begin()
            else:
                parts.rounds.start_clock()
        return parts.calls.train(
            parts.clients[action.client],
            action.dispatch,
            action.version,
            action.args,
            self._ledger.folded(action.client),
            self._ledger.accepted(action.client),
        )

    def _aggregate(self, action: Aggregate) -> None:
        parts = self._parts
        updates = parts.intake.take([update for update, _ in action.updates])
        version = parts.model.advance(
            parts.aggregator,
            parts.arena,
            [update.slot for update in updates],
            [update.meta for update in updates],
            [staleness for _, staleness in action.updates],
            self._ledger.cohort,
        )
        parts.journal.append(
            self.now,
            "aggregated",
            version=version,
            updates=[[update.client, update.dispatch, behind] for update, behind in action.updates],
            model=parts.model.file.name,
        )
        parts.journal.flush()
        for update in updates:
            # The new version is on disk: the site may forget its copy.
            self._ledger.fold(update.meta.update)
            parts.arena.free(update.slot)
            parts.courier.evict(update.meta.update.client, update.reference)
        parts.intake.free(updates)
        parts.rounds.finish(updates, [staleness for _, staleness in action.updates], self.now)
        self._feed(Aggregated(version))
