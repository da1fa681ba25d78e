"""The event loop: the one place that knows scheduler, aggregator, control plane, stores and policy."""

from __future__ import annotations

import heapq
import json
import logging
import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from appfl_gc.protocol.wire import WireError, as_count, as_line
from appfl_gc.runner.calls import HELLO_ROUND, CallFactory
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.events import ClientChanged, ClientFailed, ClientState, Outcome, PayloadMoving
from appfl_gc.runner.flight import InFlight
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Answered, Inbox, Interrupted, Landed, Moved, Noticed, Prepared, Progressed
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.outgoing import Outgoing
from appfl_gc.runner.policy import FailurePolicy, Verdict
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.rounds import Rounds
from appfl_gc.runner.routes import Routes
from appfl_gc.scheduler.base import Scheduler

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


@dataclass
class Ending:
    """How a run ended.

    Attributes:
        outcome: None while it goes on.
        error: why, when it failed.
        set_aside: clients that take no part any more, with the reason.
        interrupted: somebody asked for the end.
    """

    outcome: Outcome | None = None
    error: ErrorReport | None = None
    set_aside: dict[str, ErrorReport] = field(default_factory=dict)
    interrupted: bool = False

    def be(self, outcome: Outcome, error: ErrorReport | None = None) -> None:
        """End so, unless the run has ended already."""
        if self.outcome is None:
            self.outcome, self.error = outcome, error


class FederatedRun:
    """Drives one run from the first hello to the last aggregation."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._start = time.monotonic()
        self._acknowledged: dict[str, int] = {}
        self._timers: list[float] = []
        self.ending = Ending()

    def execute(self) -> None:
        """Run until the scheduler finishes, too few clients are left, or somebody interrupts."""
        while not self._parts.inbox.empty():  # interrupted while it was set up
            self._next()
        if self.ending.outcome is None:
            self._greet()
        self._feed(Started(tuple(c for c in self._parts.clients if c in self._parts.policy.active)))
        while self.ending.outcome is None:
            self._next()

    @property
    def now(self) -> float:
        """Seconds of run."""
        return time.monotonic() - self._start

    # The inbox

    def _greet(self) -> None:
        """Say hello to every client and wait for all answers; nothing is trained before.

        What would fail again ends the run here, with the reasons of all clients in one error.
        """
        parts = self._parts
        for client in parts.clients.values():
            parts.outgoing.greet(parts.calls.hello(client))
        while parts.dispatcher.busy and not self.ending.interrupted:
            self._next()
        if self.ending.error is not None and len(self.ending.set_aside) > 1:
            every = "\n".join(str(error) for error in self.ending.set_aside.values())
            self.ending.error = replace(self.ending.error, message=every, hint="", frames=())

    def _next(self) -> None:
        """Wait for one thing to happen and deal with it.

        Raises:
            UserCodeError: if nothing can happen any more: the scheduler left no call and no timer.
        """
        if not (self._timers or self._parts.dispatcher.busy) and self._parts.inbox.empty():
            raise UserCodeError(
                "The scheduler left nothing to wait for: no client works and no timer is set."
            )
        try:
            timeout = max(0.0, self._timers[0] - self.now) if self._timers else None
            item = self._parts.inbox.get(timeout=timeout)
        except queue.Empty:
            heapq.heappop(self._timers)
            self._feed(Timer())
            return
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

    def _interrupted(self, item: Interrupted) -> None:
        self._parts.recorder.log(f"{item.signal}: the run ends; what is done is saved.", logging.WARNING)
        self.ending.interrupted = True
        self.ending.be(Outcome.INTERRUPTED)
        self._parts.scheduler.step(self.now, Stopping())

    def _progressed(self, item: Progressed) -> None:
        if not self._parts.dispatcher.note(item):
            return
        identity, state = item.progress.call.identity, _SHOWN_AS[item.progress.state]
        if state is ClientState.OFFLINE and not item.progress.detail:
            state = ClientState.SENT  # the endpoint has only not taken it yet
        if identity.round == HELLO_ROUND and state in (ClientState.SENT, ClientState.WORKING):
            state = ClientState.CONNECTING
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
        try:
            if flight.call.identity.round == HELLO_ROUND:
                self._met(flight, reply)
                self._parts.dispatcher.done(flight.call.identity.client)
            else:
                self._parts.courier.land(self._parts.intake.begin(flight, reply, at))
        except WireError as error:
            return ErrorReport(ErrorClass.PROTOCOL, str(error))
        except AppflGcError as error:
            return error.report
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
        verdict = parts.policy.failed(identity.client, kind, identity.attempt, greeting)
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
        parts.recorder.tell(
            ClientChanged(identity.client, ClientState.SET_ASIDE, identity.round, detail=error.message)
        )
        if verdict is Verdict.END_RUN:
            self.ending.be(Outcome.FAILED, named)
        elif not greeting:
            # Down first: a refusal may complete the round, and the next one must go without this client.
            self._feed(ClientDown(identity.client))
            self._feed(Refused(UpdateId(identity.client, identity.round), error.message))

    # The scheduler

    def _feed(self, event: Event) -> None:
        """Tell the scheduler and do what it answers; nothing is done any more once the run has ended."""
        if self.ending.outcome is not None:
            return
        ready: list[tuple[Call, int]] = []
        for action in self._parts.scheduler.step(self.now, event):
            if isinstance(action, Dispatch):
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
                heapq.heappush(self._timers, action.at)
            case Hold():
                self._parts.recorder.tell(
                    ClientChanged(action.client, ClientState.WAITING, detail=action.why)
                )
            case Cancel():
                self._parts.journal.append(self.now, "cancel", client=action.client, round=action.dispatch)
            case Finish():
                self.ending.be(Outcome.PARTIAL if self.ending.set_aside else Outcome.FINISHED)

    def _call_of(self, action: Dispatch, first: bool) -> Call:
        """The call of ``action``, without model and grant; ``first`` of those that go out together."""
        parts = self._parts
        if first and not parts.dispatcher.busy:
            parts.rounds.begin()
        return parts.calls.train(
            parts.clients[action.client],
            action.dispatch,
            action.version,
            action.args,
            self._acknowledged.get(action.client, HELLO_ROUND),
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
            self._acknowledged[update.meta.update.client] = update.meta.update.dispatch
            parts.arena.free(update.slot)
            parts.courier.evict(update.meta.update.client, update.reference)
        parts.intake.free(updates)
        parts.rounds.finish(updates, self.now)
        self._feed(Aggregated(version))
