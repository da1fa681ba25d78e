"""The event loop: the one place that knows scheduler, aggregator, control plane, stores and policy."""

from __future__ import annotations

import json
import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.config import ClientConfig
from appfl_gc.control.plane import CallState
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import (
    AppflGcError,
    ErrorClass,
    ErrorReport,
    UsageError,
    UserCodeError,
    VersionError,
)
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
    UpdateMeta,
    WakeAt,
)
from appfl_gc.protocol.schedule_json import step_to_json
from appfl_gc.protocol.wire import WireError, as_count, as_finite, as_line, as_object
from appfl_gc.runner.calls import HELLO_ROUND, CallFactory
from appfl_gc.runner.clock import RunClock
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.ending import Ending
from appfl_gc.runner.events import (
    ClientChanged,
    ClientFailed,
    ClientProgress,
    ClientState,
    Outcome,
    PayloadMoving,
)
from appfl_gc.runner.flight import InFlight, Landing
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import (
    Answered,
    Displaced,
    Inbox,
    Interrupted,
    Item,
    Landed,
    Moved,
    Noticed,
    Prepared,
    Progressed,
    Told,
)
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.journal import STEP, Journal
from appfl_gc.runner.judge import Judge
from appfl_gc.runner.ledger import Ledger
from appfl_gc.runner.outgoing import Outgoing
from appfl_gc.runner.policy.decisions import (
    Accepted,
    Began,
    Decision,
    Due,
    EndRun,
    Failed,
    Folded,
    GiveUp,
    GreetAgain,
    Met,
    PolicyEvent,
    Queued,
    Retry,
    Running,
    Sent,
    SetAside,
)
from appfl_gc.runner.policy.decisions import WakeAt as WakePolicyAt
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
ASK_EVERY = 10.0
"""Seconds between two looks at what sites have told of their progress."""

_TOO_LATE = "Its update did not come within fault_tolerance_configs.deadline_seconds."

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
class AskSites:
    """It is time to look how far sites are."""


Timed: TypeAlias = Timer | Due | UpdateId | AskSites
"""What timers are set for: the scheduler's, the policy's, a call that is to be sent again, a look at progress."""


@dataclass(frozen=True)
class FailedCall:
    """A call that failed and may be sent again; ``held``: the site has the update and can send it again."""

    flight: InFlight
    error: ErrorReport
    held: bool = False

    @property
    def update(self) -> UpdateId:
        """The dispatch, or the greeting."""
        return UpdateId(self.flight.call.identity.client, self.flight.call.identity.round)

    @property
    def greeting(self) -> bool:
        """Whether it is a greeting."""
        return self.update.dispatch == HELLO_ROUND


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
    judge: Judge
    model: GlobalModel
    courier: Courier
    outgoing: Outgoing
    intake: Intake
    rounds: Rounds
    journal: Journal
    recorder: Recorder
    clock: RunClock
    ledger: Ledger


class FederatedRun:
    """Drives one run from the first hello to the last aggregation.

    Args:
        parts: what it is made of.
        started: the scheduler has begun before; the run is gone on with.
    """

    def __init__(self, parts: Parts, *, started: bool = False) -> None:
        self._parts = parts
        self._held_up: set[str] = set()
        self._timers: Timers[Timed] = Timers()
        self._asks = False
        self._coming_back: set[str] = set()
        self._failed_calls: dict[str, FailedCall] = {}
        self._checkpoints: dict[UpdateId, int] = {}
        self._told_running: set[UpdateId] = set()
        self._started = started
        self.ending = Ending()

    def execute(self, recover: Callable[[], None] = lambda: None) -> None:
        """Run until the scheduler finishes, too few clients are left, or somebody interrupts.

        ``recover`` is called first: it brings a run that is gone on with to where it was.
        """
        while not self._parts.inbox.empty():  # interrupted while it was set up
            self._next()
        if self.ending.outcome is None:
            recover()
        if not self._started:
            if self.ending.outcome is None:
                self._greet()
            self._begin()
        while self.ending.outcome is None:
            self._next()

    def leave(self) -> None:
        """The run ends here: sites that still work for it are to stop. Waits for none of them."""
        parts = self._parts
        if self.ending.displaced:
            parts.courier.abandon()
            parts.routes.abandon()
            return
        for flight in parts.dispatcher.in_flight:
            self._unmark(flight)
        outcome = self.ending.outcome or Outcome.FAILED
        parts.journal.append(self.now, "finished", outcome=outcome.value)

    @property
    def now(self) -> float:
        """Seconds of run."""
        return self._parts.clock.now

    # The inbox

    def _greet(self) -> None:
        """Say hello to every client that was not met, and wait for the answers; nothing is trained before.

        Where the scheduler does not need all clients at once, those that wait for a login, an endpoint or nodes are
        not waited for. What would fail again ends the run here, with the reasons of all clients in one error.
        """
        parts, patient = self._parts, self._parts.scheduler.waits_for_all
        self.greet([client for client in parts.clients if not parts.ledger.knows(client)])
        until = self.now + GREETING_SECONDS
        while not self.ending.interrupted:
            missing = parts.dispatcher.busy if patient else parts.dispatcher.busy - self._held_up
            if not missing or not (patient or self.now < until):
                break
            self._next(None if patient else until)
        if self.ending.error is not None and len(self.ending.set_aside) > 1:
            every = "\n".join(str(error) for error in self.ending.set_aside.values())
            self.ending.error = replace(self.ending.error, message=every, hint="", frames=())

    def greet(self, clients: Sequence[str]) -> None:
        """Say hello to ``clients``."""
        for client in clients:
            if client in self._parts.dispatcher.busy:
                continue
            self.judge(Sent(UpdateId(client, HELLO_ROUND), 0))
            self._parts.outgoing.greet(self._parts.calls.hello(self._parts.clients[client]))

    def set_timer(self, at: float, what: Timed) -> None:
        """Do ``what`` at second ``at`` of the run."""
        self._timers.set(at, what)

    def take_up(self, failed: FailedCall, *, now: bool, checkpoint_steps: int = 0) -> None:
        """A call of an earlier server is to be sent again: ``now``, or when the policy says so."""
        self._parts.dispatcher.begin(failed.update.client, failed.flight.version)
        self._failed_calls[failed.update.client] = failed
        if checkpoint_steps:
            self._checkpoints[failed.update] = checkpoint_steps
        if now:
            self._send_again(failed.update)

    def _begin(self) -> None:
        """Tell the scheduler who takes part; who has not answered yet joins later."""
        parts = self._parts
        part = parts.judge.policy.active | self._coming_back
        active = tuple(client for client in parts.clients if client in part)
        awaited = tuple(client for client in active if not parts.ledger.knows(client))
        if awaited and self.ending.outcome is None:
            names = ", ".join(awaited[:NAMED]) + (" and others" if len(awaited) > NAMED else "")
            parts.recorder.log(
                f"The run begins with {len(active) - len(awaited)} clients; {names} join later."
            )
        if self.ending.outcome is None:
            self.judge(Began())
            self._started = True
            self.feed(Started(active, awaited))

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
        for at, what in self._timers.take_due(self.now):
            self._due(at, what)
        match item:
            case Interrupted():
                self._interrupted(item)
            case Displaced():
                self._displaced(item)
            case Progressed():
                self._progressed(item)
            case Told():
                self._told(item)
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

    def _due(self, at: float, what: Timed) -> None:
        """A timer that was set for second ``at`` is due."""
        match what:
            case Timer():
                self.feed(what, at)
            case Due():
                self.judge(what)
            case UpdateId():
                self._send_again(what)
            case AskSites():
                self._asks = False
                self._parts.courier.ask(self._parts.dispatcher.in_flight)
                self._ask_later()

    def _interrupted(self, item: Interrupted) -> None:
        self._parts.recorder.log(f"{item.signal}: the run ends; what is done is saved.", logging.WARNING)
        self.ending.interrupted = True
        self.ending.be(Outcome.INTERRUPTED)
        if self._started:
            try:
                self._parts.scheduler.step(self._parts.clock.tick(), Stopping())
            except AppflGcError as error:  # the run ends as it was asked to
                self._parts.recorder.log(str(error), logging.ERROR)

    def _displaced(self, item: Displaced) -> None:
        self.ending.displaced = True
        self.ending.be(Outcome.FAILED, UsageError(item.message).report)
        self._parts.journal.close()

    def _progressed(self, item: Progressed) -> None:
        if not self._parts.dispatcher.note(item):
            return
        identity, state = item.progress.call.identity, _SHOWN_AS[item.progress.state]
        self._note_task(item)
        self._tell_policy(UpdateId(identity.client, identity.round), item.progress.state)
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

    def _note_task(self, item: Progressed) -> None:
        """Write down the service's number of a call once it has one, so that the call can be attached to."""
        identity = item.progress.call.identity
        flight = self._parts.dispatcher.flight(identity.client)
        if flight is None or not item.progress.task or flight.task == item.progress.task:
            return
        flight.task = item.progress.task
        self._parts.journal.append(
            self.now,
            "task",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            task=flight.task,
        )

    def _tell_policy(self, update: UpdateId, state: CallState) -> None:
        """Whether a call runs or waits for nodes decides when its deadline begins."""
        if update.dispatch == HELLO_ROUND:
            return
        if state is CallState.RUNNING and update not in self._told_running:
            self._told_running.add(update)
            self.judge(Running(update))
        elif state in (
            CallState.WAITING_FOR_NODES,
            CallState.WAITING_FOR_ENDPOINT,
            CallState.WAITING_FOR_LOGIN,
        ):
            self._told_running.discard(update)
            self.judge(Queued(update))

    def _told(self, item: Told) -> None:
        """A site says how far it is: it has begun, and is alive."""
        identity, progress = item.call.identity, item.progress
        flight = self._parts.dispatcher.flight(identity.client)
        if flight is None or flight.call is not item.call:
            return
        self._tell_policy(UpdateId(identity.client, identity.round), CallState.RUNNING)
        self._parts.recorder.tell(
            ClientProgress(identity.client, identity.round, progress.steps, progress.planned)
        )

    def _ask_later(self) -> None:
        """Look how far sites are in a while, as long as any of them can tell."""
        flights = self._parts.dispatcher.in_flight
        if not self._asks and any(flight.mailbox is not None for flight in flights):
            self._asks = True
            self._timers.set(self.now + ASK_EVERY, AskSites())

    def _prepared(self, items: Sequence[Prepared]) -> None:
        """Calls have their payloads, or some have not."""
        parts, ready = self._parts, []
        for item in items:
            identity = item.call.identity
            if item.error is not None:
                self._failed(InFlight(item.call, time.monotonic(), item.version), item.error)
            elif parts.judge.policy.is_open(UpdateId(identity.client, identity.round)):
                ready.append(item)
            else:  # given up meanwhile
                parts.courier.withdraw(identity.client, as_object(item.call.args["grant"], "The grant"))
                if item.mailbox is not None:
                    parts.courier.remove(item.mailbox)
        if self.ending.outcome is None:
            parts.outgoing.send_prepared(ready, self.now)
            self._ask_later()

    def _answered(self, item: Answered) -> None:
        flight = self._parts.dispatcher.take(item)
        if flight is None:
            return
        self._unmark(flight)
        error, reply = item.error, item.reply
        if reply is not None:
            self._parts.recorder.client_lines(flight.call.identity.client, reply.log)
            if error is None:
                error = self._take_in(flight, reply, item.at)
        if error is not None:
            held = reply is not None and any(ref.scheme == HELD for ref in reply.payloads.values())
            steps = None if reply is None else as_finite(reply.values.get("checkpoint_steps"))
            self._failed(flight, error, held, int(steps or 0))

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
        if greeting:
            self.judge(Met(client))
            if self._started:
                self.feed(ClientUp(client))
        return None

    def _landed(self, item: Landed) -> None:
        """An update is in its slot, or could not be brought there."""
        parts, landing = self._parts, item.landing
        identity = landing.flight.call.identity
        client, update = identity.client, UpdateId(identity.client, identity.round)
        if not parts.judge.policy.is_open(update):  # given up meanwhile
            self._refuse(landing)
            return
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
        parts.ledger.accept(meta.update)
        self._forget(meta.update)
        for grant in parts.intake.unused_grants(meta.update, landing.reference):
            parts.courier.withdraw(client, grant)
        late = self._parts.judge.hear(Accepted(meta.update))
        self.feed(Arrived(meta))
        self._carry_out(late)

    def _refuse(self, landing: Landing) -> None:
        """Nobody waits for an update that has come all the same."""
        parts = self._parts
        parts.arena.free(landing.slot)
        parts.intake.give_up(landing)
        if landing.kept is not None:
            landing.kept.path.unlink(missing_ok=True)
        parts.courier.evict(landing.flight.call.identity.client, landing.reference)

    def _met(self, flight: InFlight, reply: Reply) -> None:
        parts, values, client = self._parts, reply.values, flight.call.identity.client
        if values.get("torch") is not True:
            raise VersionError("The site has no torch, so it can't train.", "pip install torch at the site.")
        size = as_count(values.get("sample_size"), "The sample size")
        threads = as_count(values.get("threads"), "The number of threads")
        parts.calls.threads[client] = threads
        parts.ledger.met(client, size)
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
        self.ending.set_aside.pop(client, None)
        parts.recorder.logger.info("Client %s: user code runs in %s. %s", client, place, policy)
        parts.recorder.tell(ClientChanged(client, ClientState.READY, detail=f"{size} samples"))

    # Failures

    def judge(self, event: PolicyEvent) -> None:
        """Tell the failure policy and do what it decides."""
        self._carry_out(self._parts.judge.hear(event))

    def _failed(
        self, flight: InFlight, error: ErrorReport, held: bool = False, checkpoint_steps: int = 0
    ) -> None:
        """Do what the policy says of a call that failed.

        Args:
            flight: the call.
            error: why.
            held: the site has the update and can send it again.
            checkpoint_steps: that the site has in a checkpoint, to go on from.
        """
        parts, identity = self._parts, flight.call.identity
        update = UpdateId(identity.client, identity.round)
        if identity.round != HELLO_ROUND and not parts.judge.policy.is_open(update):
            return
        progressed = checkpoint_steps > self._checkpoints.get(update, 0)
        if progressed:
            self._checkpoints[update] = checkpoint_steps
        self._told_running.discard(update)
        self._failed_calls.pop(identity.client, None)  # the newest comes last
        self._failed_calls[identity.client] = FailedCall(flight, error, held)
        parts.journal.append(
            self.now,
            "failed",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            error_class=error.error_class.value,
            message=error.message,
            checkpoint_steps=checkpoint_steps,
        )
        # What the site still has is worth another try, whatever kept it from being sent.
        kind = ErrorClass.TRANSFER if held else error.error_class
        decisions = parts.judge.hear(Failed(update, kind, progressed))
        final = not any(isinstance(decision, Retry) for decision in decisions)
        parts.recorder.tell(ClientFailed(identity.client, identity.round, error, final))
        self._carry_out(decisions)

    def _carry_out(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Retry():
                    self._retry(decision)
                case GiveUp():
                    self._give_up(decision)
                case SetAside():
                    self._set_aside(decision)
                case GreetAgain():
                    self._parts.recorder.log(f"Client {decision.client} is greeted again.")
                    self.greet([decision.client])
                case EndRun():
                    self._end(decision)
                case WakePolicyAt():
                    self._timers.set(decision.at, Due())

    def _retry(self, decision: Retry) -> None:
        update = decision.update
        self._parts.recorder.tell(ClientChanged(update.client, ClientState.RETRYING, update.dispatch))
        if decision.at <= self.now or self.ending.outcome is not None:
            self._send_again(update)
        else:
            self._timers.set(decision.at, update)

    def _send_again(self, update: UpdateId) -> None:
        """Send the call of ``update``, which failed, as a new attempt, unless it was given up meanwhile."""
        parts, failed = self._parts, self._failed_calls.get(update.client)
        if failed is None or failed.update != update:
            return
        if self.ending.outcome is not None:
            parts.dispatcher.done(update.client)
            return
        del self._failed_calls[update.client]
        again = parts.calls.again(failed.flight.call, failed.error.error_class, failed.held)
        self.judge(Sent(update, failed.flight.version))
        if failed.greeting:
            parts.outgoing.greet_again(again, self.now)
        else:
            parts.outgoing.request([(again, failed.flight.version)])

    def _give_up(self, decision: GiveUp) -> None:
        """Nothing comes of a dispatch any more; where its site may still be at it, it is told to stop."""
        parts, update = self._parts, decision.update
        flight = parts.dispatcher.forget(update.client)
        if flight is not None:
            self._unmark(flight)
            parts.journal.append(self.now, "cancel", client=update.client, round=update.dispatch)
        for grant in parts.intake.unused_grants(update, None):
            parts.courier.withdraw(update.client, grant)
        failed = self._failed_calls.pop(update.client, None)
        why = _TOO_LATE if failed is None or decision.error_class is ErrorClass.LATE else failed.error.message
        if decision.error_class is ErrorClass.LATE:
            parts.recorder.tell(
                ClientFailed(update.client, update.dispatch, ErrorReport(ErrorClass.LATE, why), final=True)
            )
        self._forget(update)
        parts.recorder.tell(ClientChanged(update.client, ClientState.WAITING, update.dispatch, detail=why))
        if self._started and update.dispatch != HELLO_ROUND:
            self.feed(Refused(update, why, decision.replace))

    def _set_aside(self, decision: SetAside) -> None:
        parts, client = self._parts, decision.client
        failed = self._failed_calls.get(client)
        error = ErrorReport(ErrorClass.LATE, _TOO_LATE) if failed is None else failed.error
        if failed is not None and failed.greeting:
            del self._failed_calls[client]
            parts.dispatcher.done(client)
        self.ending.set_aside[client] = replace(error, message=f"Client {client}: {error.message}")
        parts.rounds.set_aside(client)
        detail = error.message
        if decision.again_at is not None:
            self._coming_back.add(client)
            wait = max(0.0, decision.again_at - self.now)
            parts.recorder.log(f"Client {client} is set aside and greeted again in {wait:.0f} s.")
        parts.recorder.tell(ClientChanged(client, ClientState.SET_ASIDE, detail=detail))
        if self._started:
            self.feed(ClientDown(client))

    def _end(self, decision: EndRun) -> None:
        """The run can't go on; what ended it is told with the error that caused it."""
        report = ErrorReport(decision.error_class, decision.why, decision.hint)
        client, failed = next(reversed(self._failed_calls.items()), ("", None))
        if failed is not None:
            error = replace(failed.error, message=f"Client {client}: {failed.error.message}")
            self.ending.set_aside[client] = error
            self._parts.dispatcher.done(client)
            hint = "\n".join(text for text in (error.hint, decision.hint) if text)
            report = replace(error, message=f"{error.message}\n{decision.why}", hint=hint)
        self.ending.be(Outcome.FAILED, report)

    def _forget(self, update: UpdateId) -> None:
        """Nothing more is heard of ``update``."""
        self._checkpoints.pop(update, None)
        self._told_running.discard(update)

    def _unmark(self, flight: InFlight) -> None:
        """Nobody waits for ``flight`` any more: its site, if it is still at it, stops."""
        if flight.mailbox is not None:
            self._parts.courier.remove(flight.mailbox)
            flight.mailbox = None

    # The scheduler

    def feed(self, event: Event, due: float = 0.0) -> None:
        """Tell the scheduler and do what it answers; nothing is done any more once the run has ended.

        Event, time and actions are journaled, so that the journal replays to the same actions. Time never goes back,
        and is not before ``due``.
        """
        if self.ending.outcome is not None:
            return
        now = self._parts.clock.tick(due)
        actions = self._parts.scheduler.step(now, event)
        self._parts.journal.append(
            now,
            STEP,
            now=now,
            event=step_to_json(event),
            actions=[step_to_json(action) for action in actions],
        )
        ready: list[Dispatch] = []
        for action in actions:
            if isinstance(action, Dispatch):
                ready.append(action)
            else:
                self.dispatch(ready)
                ready = []
                self.act(action)
        self.dispatch(ready)

    def act(self, action: Action) -> None:
        """Do what the scheduler answered, but for a ``Dispatch``."""
        match action:
            case Aggregate():
                self._aggregate(action)
            case Release():
                self._parts.courier.release(action.version, self._parts.dispatcher.in_use())
            case WakeAt():
                self._timers.set(action.at, Timer())
            case Hold():
                self._parts.recorder.tell(
                    ClientChanged(action.client, ClientState.WAITING, detail=action.why)
                )
            case Cancel():
                self._cancel(action)
            case Finish():
                self.ending.be(Outcome.PARTIAL if self.ending.set_aside else Outcome.FINISHED)

    def dispatch(self, actions: Sequence[Dispatch]) -> None:
        """Send out what the scheduler dispatched in one step."""
        sent: set[str] = set()
        for action in actions:
            self._check_free(action.client, sent)
            sent.add(action.client)
        ready = [(self._call_of(action, first=number == 0), action) for number, action in enumerate(actions)]
        for _, action in ready:
            self.judge(Sent(UpdateId(action.client, action.dispatch), action.version))
        self._parts.outgoing.request([(call, action.version) for call, action in ready])

    def _cancel(self, action: Cancel) -> None:
        """The scheduler has no use for a dispatch any more; its site stops, if it can be told."""
        flight = self._parts.dispatcher.flight(action.client)
        if flight is not None and flight.call.identity.round == action.dispatch:
            self._unmark(flight)
        self._parts.journal.append(self.now, "cancel", client=action.client, round=action.dispatch)

    def _check_free(self, client: str, sent: Set[str]) -> None:
        """Raise ``UserCodeError`` if ``client`` can't get work: it takes no part, works, or is among ``sent``."""
        if client not in self._parts.judge.policy.active:
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
            parts.ledger.folded(action.client),
            parts.ledger.accepted(action.client),
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
            parts.ledger.cohort,
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
            parts.ledger.fold(update.meta.update)
            parts.arena.free(update.slot)
            update.kept.unlink(missing_ok=True)
            parts.courier.evict(update.meta.update.client, update.reference)
        parts.intake.free(updates)
        self.close_round([update.meta for update in updates], [behind for _, behind in action.updates])
        self.feed(Aggregated(version))

    def close_round(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> None:
        """The newest version, made of ``metas``, is on the disk: close its books."""
        parts = self._parts
        parts.rounds.finish(metas, staleness, self.now)
        self.judge(Folded(parts.model.version))
