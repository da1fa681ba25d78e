"""The event loop: the one place that knows scheduler, aggregator, control plane, stores and policy."""

from __future__ import annotations

import json
import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from appfl_gc.control.plane import CallState
from appfl_gc.payload.inline_store import InlineStore
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
    Arrived,
    ClientUp,
    Event,
    Started,
    Stopping,
    Timer,
    UpdateId,
)
from appfl_gc.protocol.wire import WireError, as_count, as_finite, as_line, as_object
from appfl_gc.runner.calls import HELLO_ROUND
from appfl_gc.runner.ending import Ending
from appfl_gc.runner.events import (
    ClientChanged,
    ClientState,
    Outcome,
    PayloadMoving,
    TaskProgressed,
)
from appfl_gc.runner.failures import Failures
from appfl_gc.runner.flight import InFlight, Landing
from appfl_gc.runner.inbox import (
    Answered,
    Displaced,
    Interrupted,
    Item,
    Landed,
    Moved,
    Noticed,
    Prepared,
    Progressed,
    Told,
)
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.policy.classes import UNHEARD
from appfl_gc.runner.policy.decisions import (
    Accepted,
    Began,
    Due,
    Met,
)
from appfl_gc.runner.steering import Steering
from appfl_gc.runner.timers import AskSites, Timed, Timers

GREETING_SECONDS = 30.0
"""How long clients that say nothing of themselves are waited for where the scheduler can begin without them."""

LONGEST_WAIT = 3600.0
"""Seconds that the event loop waits at a time: a timer may be set for any time."""
NAMED = 10
"""Clients that a log line names."""
ASK_EVERY = 10.0
"""Seconds between two looks at what sites have told of their progress."""

_SHOWN_AS: Mapping[CallState, ClientState] = MappingProxyType(
    {
        CallState.SENDING: ClientState.SENT,
        CallState.WAITING_FOR_LOGIN: ClientState.NO_LOGIN,
        CallState.WAITING_FOR_ENDPOINT: ClientState.OFFLINE,
        CallState.WAITING_FOR_NODES: ClientState.QUEUED,
        CallState.WAITING_FOR_WORKER: ClientState.QUEUED,
        CallState.RUNNING: ClientState.WORKING,
    }
)


class FederatedRun:
    """Drives one run from the first hello to the last aggregation.

    Args:
        parts: what it is made of.
        started: the scheduler has begun before; the run is gone on with.

    Attributes:
        ending: how it ended.
        timers: when something is to be done.
        failures: does what the failure policy decides.
        steering: does what the scheduler answers.
    """

    def __init__(self, parts: Parts, *, started: bool = False) -> None:
        self._parts = parts
        self._held_up: set[str] = set()
        self._asks = False
        self.ending = Ending()
        self.timers: Timers[Timed] = Timers()
        self.failures = Failures(parts, self.ending, self.timers, self._feed)
        self.steering = Steering(parts, self.ending, self.timers, self.failures.judge, started=started)

    def _feed(self, event: Event) -> None:
        self.steering.feed(event)

    def execute(self, recover: Callable[[], None] = lambda: None) -> None:
        """Run until the scheduler finishes, too few clients are left, or somebody interrupts.

        ``recover`` is called first: it brings a run that is gone on with to where it was.
        """
        while not self._parts.inbox.empty():  # interrupted while it was set up
            self._next()
        if self.ending.outcome is None:
            recover()
        if not self.steering.started:
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
        # First, for it fails where another process has taken the run.
        parts.journal.append(self.now, "finished", outcome=(self.ending.outcome or Outcome.FAILED).value)
        self.failures.unmark_all()
        self._tell_who_goes_on()
        for flight in parts.dispatcher.in_flight:
            parts.courier.unmark(flight)

    def _tell_who_goes_on(self) -> None:
        """Name the clients whose sites work on and can't be told to stop."""
        parts = self._parts
        unmarked = [flight.call.identity for flight in parts.dispatcher.in_flight if flight.mailbox is None]
        deaf = [
            call.client
            for call in unmarked
            if call.round != HELLO_ROUND and not parts.capabilities[call.client].cancel
        ]
        if deaf:
            parts.recorder.log(
                f"Sites that can't be told to stop, since no store of theirs has marks, work on to the end of their "
                f"task: {_listed(deaf)}.",
                logging.WARNING,
            )

    @property
    def now(self) -> float:
        """Seconds of run."""
        return self._parts.clock.now

    # The beginning

    def _greet(self) -> None:
        """Say hello to every client that was not met, and wait for the answers; nothing is trained before.

        Where the scheduler does not need all clients at once, those that wait for a login, an endpoint or nodes are
        not waited for; nor are they once the run can't begin. What would fail again ends the run here, with the
        reasons of all clients in one error.
        """
        parts, patient = self._parts, self._parts.scheduler.waits_for_all
        self.failures.greet([client for client in parts.clients if not parts.ledger.knows(client)])
        until = self.now + GREETING_SECONDS
        while not (self.ending.interrupted or self.ending.displaced):
            if patient and self.ending.outcome is not None:
                patient, until = False, self.now + GREETING_SECONDS
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
        part = parts.judge.policy.active | self.failures.coming_back
        active = tuple(client for client in parts.clients if client in part)
        awaited = tuple(client for client in active if not parts.ledger.knows(client))
        if awaited and self.ending.outcome is None:
            parts.recorder.log(
                f"The run begins with {len(active) - len(awaited)} clients; {_listed(awaited)} join later."
            )
        if self.ending.outcome is None:
            self.failures.judge(Began())
            self.steering.feed(Started(active, awaited))

    # The inbox

    def _next(self, until: float | None = None) -> None:
        """Wait for one thing to happen, at most until second ``until`` of the run, and deal with it.

        A timer that is due comes before whatever else has happened.

        Raises:
            UserCodeError: if nothing can happen any more: the scheduler left no call and no timer.
        """
        if not (self.timers or self._parts.dispatcher.busy) and self._parts.inbox.empty():
            raise UserCodeError(
                "The scheduler left nothing to wait for: no client works and no timer is set."
            )
        ends = [at for at in (self.timers.next, until) if at is not None]
        item = self._wait(min(ends) - self.now if ends else None)
        for at, what in self.timers.take_due(self.now):
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
                self.steering.feed(what, at)
            case Due():
                self.failures.judge(what)
            case UpdateId():
                self.failures.send_again(what)
            case AskSites():
                self._asks = False
                self._parts.courier.ask(self._parts.dispatcher.in_flight)
                self._ask_later()

    def _interrupted(self, item: Interrupted) -> None:
        self._parts.recorder.log(f"{item.signal}: the run ends; what is done is saved.", logging.WARNING)
        self.ending.interrupted = True
        self.ending.be(Outcome.INTERRUPTED)
        if self.steering.started:
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
        self.failures.reached(UpdateId.of(identity), item.progress.state)
        if state is ClientState.OFFLINE and not item.progress.detail:
            state = ClientState.SENT  # the endpoint has only not taken it yet
        here = item.progress.state is CallState.WAITING_FOR_WORKER
        answers_soon = state in (ClientState.SENT, ClientState.WORKING) or here
        if identity.round == HELLO_ROUND and answers_soon:
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

    def _told(self, item: Told) -> None:
        """A site says how far it is: it has begun, and is alive."""
        identity, progress = item.call.identity, item.progress
        flight = self._parts.dispatcher.flight(identity.client)
        if flight is None or flight.call is not item.call:
            return
        self.failures.reached(UpdateId.of(identity), CallState.RUNNING)
        self._parts.recorder.tell(
            TaskProgressed(identity.client, identity.round, progress.steps, progress.planned)
        )

    def _ask_later(self) -> None:
        """Look how far sites are in a while, as long as any of them can tell."""
        flights = self._parts.dispatcher.in_flight
        if not self._asks and any(flight.mailbox is not None for flight in flights):
            self._asks = True
            self.timers.set(self.now + ASK_EVERY, AskSites())

    def _prepared(self, items: Sequence[Prepared]) -> None:
        """Calls have their payloads, or some have not."""
        parts, ready = self._parts, []
        for item in items:
            identity = item.call.identity
            if item.error is not None and item.error.error_class is ErrorClass.STORAGE:
                self.ending.be(Outcome.FAILED, item.error)  # this machine's disk: no client can help it
            elif item.error is not None:
                never_sent = InFlight(item.call, time.monotonic(), item.version)
                self.failures.failed(never_sent, item.error, left=False)
            elif parts.judge.policy.is_open(UpdateId.of(identity)):
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
        error, reply = item.error, item.reply
        if error is not None and reply is None and error.error_class in UNHEARD:
            self.failures.leave_marked(flight)
        else:
            self._parts.courier.unmark(flight)
        if reply is not None:
            self._parts.recorder.client_lines(flight.call.identity.client, reply.log)
            if error is None:
                error = self._take_in(flight, reply, item.at)
        if error is not None:
            held = reply is not None and any(ref.scheme == HELD for ref in reply.payloads.values())
            steps = None if reply is None else as_finite(reply.values.get("checkpoint_steps"))
            self.failures.failed(flight, error, held, int(steps or 0))

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
            self.failures.judge(Met(client))
            self.steering.feed(ClientUp(client))
        return None

    def _landed(self, item: Landed) -> None:
        """An update is in its slot, or could not be brought there."""
        parts, landing = self._parts, item.landing
        identity = landing.flight.call.identity
        client, update = identity.client, UpdateId.of(identity)
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
            kept = parts.routes.of(client).stores.remote and landing.reference.scheme != InlineStore.scheme
            held = kept and item.error.error_class is ErrorClass.TRANSFER
            self.failures.failed(landing.flight, item.error, held)
            return
        meta = parts.intake.accept(landing, item.seconds, self.now)
        parts.dispatcher.done(client)
        parts.ledger.accept(meta.update)
        self.failures.forget(meta.update)
        for grant in parts.intake.unused_grants(meta.update, landing.reference):
            parts.courier.withdraw(client, grant)
        late = self._parts.judge.hear(Accepted(meta.update))
        self.steering.feed(Arrived(meta))
        self.failures.carry_out(late)

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
        size = parts.intake.sample_size(reply)
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


def _listed(clients: Sequence[str]) -> str:
    """Their names, not too many."""
    return ", ".join(clients[:NAMED]) + (" and others" if len(clients) > NAMED else "")
