"""Calls that fail: what the failure policy decides is done here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from appfl_gc.control.plane import CallState
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.errors import ErrorClass, ErrorReport
from appfl_gc.protocol.schedule import ClientDown, Event, Refused, UpdateId
from appfl_gc.runner.calls import HELLO_ROUND
from appfl_gc.runner.ending import Ending
from appfl_gc.runner.events import ClientChanged, ClientFailed, ClientState, Outcome
from appfl_gc.runner.flight import InFlight
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.policy.decisions import (
    Decision,
    Due,
    EndRun,
    Failed,
    GiveUp,
    GreetAgain,
    PolicyEvent,
    Queued,
    Retry,
    Running,
    Sent,
    SetAside,
    WakeAt,
)
from appfl_gc.runner.timers import Timed, Timers

_LATE = ErrorReport(
    ErrorClass.LATE, "Its update did not come within fault_tolerance_configs.deadline_seconds."
)


@dataclass(frozen=True)
class FailedCall:
    """A call that failed and may be sent again.

    Attributes:
        flight: the call.
        error: why.
        held: the site has the update and can send it again.
        left: it was sent.
    """

    flight: InFlight
    error: ErrorReport
    held: bool = False
    left: bool = True

    @property
    def update(self) -> UpdateId:
        """The dispatch, or the greeting."""
        return UpdateId.of(self.flight.call.identity)

    @property
    def greeting(self) -> bool:
        """Whether it is a greeting."""
        return self.update.dispatch == HELLO_ROUND


class Failures:
    """Tells the failure policy what happens to calls, and does what it decides.

    Args:
        parts: of the run.
        ending: of the run.
        timers: of the run.
        feed: tells the scheduler.

    Attributes:
        coming_back: clients that were set aside before the scheduler began, and are greeted again.
    """

    def __init__(
        self, parts: Parts, ending: Ending, timers: Timers[Timed], feed: Callable[[Event], None]
    ) -> None:
        self._parts = parts
        self._ending = ending
        self._timers = timers
        self._feed = feed
        self._calls: dict[str, FailedCall] = {}
        self._checkpoints: dict[UpdateId, int] = {}
        self._told_running: set[UpdateId] = set()
        self._marked: dict[UpdateId, list[ServerMailbox]] = {}
        self.coming_back: set[str] = set()

    def greet(self, clients: Sequence[str]) -> None:
        """Say hello to ``clients``."""
        for client in clients:
            if client in self._parts.dispatcher.busy:
                continue
            self.judge(Sent(UpdateId(client, HELLO_ROUND), 0))
            self._parts.outgoing.greet(self._parts.calls.hello(self._parts.clients[client]))

    def take_up(self, failed: FailedCall, *, now: bool, checkpoint_steps: int = 0) -> None:
        """A call of an earlier server is to be sent again: ``now``, or when the policy says so."""
        self._parts.dispatcher.begin(failed.update.client, failed.flight.version)
        self._calls[failed.update.client] = failed
        if checkpoint_steps:
            self._checkpoints[failed.update] = checkpoint_steps
        if now:
            self.send_again(failed.update)

    def judge(self, event: PolicyEvent) -> None:
        """Tell the failure policy and do what it decides."""
        self.carry_out(self._parts.judge.hear(event))

    def failed(
        self,
        flight: InFlight,
        error: ErrorReport,
        held: bool = False,
        checkpoint_steps: int = 0,
        *,
        left: bool = True,
    ) -> None:
        """Do what the policy says of a call that failed.

        Args:
            flight: the call.
            error: why.
            held: the site has the update and can send it again.
            checkpoint_steps: that the site has in a checkpoint, to go on from.
            left: the call was sent.
        """
        parts, identity = self._parts, flight.call.identity
        update = UpdateId.of(identity)
        if identity.round != HELLO_ROUND and not parts.judge.policy.is_open(update):
            return
        progressed = checkpoint_steps > self._checkpoints.get(update, 0)
        if progressed:
            self._checkpoints[update] = checkpoint_steps
        self._told_running.discard(update)
        self._calls[identity.client] = FailedCall(flight, error, held, left)
        parts.journal.append(
            self._parts.clock.now,
            "failed",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            error=replace(error, trace="").to_json(),
            checkpoint_steps=checkpoint_steps,
        )
        # What the site still has is worth another try, whatever kept it from being sent.
        kind = ErrorClass.TRANSFER if held else error.error_class
        decisions = parts.judge.hear(Failed(update, kind, progressed))
        final = not any(isinstance(decision, Retry) for decision in decisions)
        parts.recorder.tell(ClientFailed(identity.client, identity.round, error, final))
        self.carry_out(decisions)

    def carry_out(self, decisions: Sequence[Decision]) -> None:
        """Do what the policy decided, in its order."""
        reasons = {client: call.error for client, call in self._calls.items()} if decisions else {}
        for decision in decisions:
            match decision:
                case Retry():
                    self._retry(decision)
                case GiveUp():
                    self._give_up(decision)
                case SetAside():
                    self._set_aside(decision, reasons.get(decision.client, _LATE))
                case GreetAgain():
                    self.coming_back.add(decision.client)
                    self._parts.recorder.log(f"Client {decision.client} is greeted again.")
                    self.greet([decision.client])
                case EndRun():
                    self._end(decision)
                case WakeAt():
                    self._timers.set(decision.at, Due())

    def _retry(self, decision: Retry) -> None:
        update = decision.update
        self._drop_late(update)
        self._parts.recorder.tell(ClientChanged(update.client, ClientState.RETRYING, update.dispatch))
        if decision.at <= self._parts.clock.now or self._ending.outcome is not None:
            self.send_again(update)
        else:
            self._timers.set(decision.at, update)

    def _drop_late(self, update: UpdateId) -> None:
        """If ``update`` is still under way, its deadline is over: nobody waits for this attempt any more."""
        parts = self._parts
        flight = parts.dispatcher.flight(update.client)
        if flight is None or flight.call.identity.round != update.dispatch:
            version = parts.dispatcher.version_of(update.client)
            if version is not None and update.client not in self._calls:
                # Its model is still on its way out, or its update on its way in: it gets as long again.
                self.judge(Sent(update, version))
            return
        parts.dispatcher.forget(update.client)
        parts.dispatcher.begin(update.client, flight.version)
        parts.courier.unmark(flight)
        self._told_running.discard(update)
        self._calls[update.client] = FailedCall(flight, _LATE)
        parts.recorder.tell(ClientFailed(update.client, update.dispatch, _LATE, final=False))

    def send_again(self, update: UpdateId) -> None:
        """Send the call of ``update``, which failed, as a new attempt, unless it was given up meanwhile."""
        parts, failed = self._parts, self._calls.get(update.client)
        if failed is None or failed.update != update:
            return
        if self._ending.outcome is not None:
            parts.dispatcher.done(update.client)
            return
        del self._calls[update.client]
        self._doubt_model(failed)
        call = failed.flight.call
        again = (
            parts.calls.again(call, failed.error.error_class, failed.held)
            if failed.left
            else parts.calls.renewed(call)
        )
        self.judge(Sent(update, failed.flight.version))
        if failed.greeting:
            parts.outgoing.greet_again(again, self._parts.clock.now)
        else:
            parts.outgoing.request([(again, failed.flight.version)])

    def _doubt_model(self, failed: FailedCall) -> None:
        """If payloads failed to move a second time, the model may be gone from its store, as after a purge."""
        call, parts = failed.flight.call, self._parts
        model = call.payloads.get("model")
        second = failed.error.error_class is ErrorClass.TRANSFER and call.identity.attempt > 1
        if second and failed.left and not failed.held and model is not None:
            parts.model.doubt(failed.flight.version, parts.routes.of(failed.update.client), model)

    def _give_up(self, decision: GiveUp) -> None:
        """Nothing comes of a dispatch any more; a site that is still at it stops, and so does a transfer."""
        parts, update = self._parts, decision.update
        flight = parts.dispatcher.forget(update.client)
        if flight is not None:
            parts.courier.unmark(flight)
        parts.courier.give_up(update)
        for grant in parts.intake.unused_grants(update, None):
            parts.courier.withdraw(update.client, grant)
        failed = self._calls.pop(update.client, None)
        late = decision.error_class is ErrorClass.LATE
        why = _LATE.message if late or failed is None else failed.error.message
        if late:
            parts.recorder.tell(ClientFailed(update.client, update.dispatch, _LATE, final=True))
        self.forget(update)
        parts.recorder.tell(ClientChanged(update.client, ClientState.WAITING, update.dispatch, detail=why))
        if update.dispatch != HELLO_ROUND:
            self._feed(Refused(update, why, decision.replace))

    def _set_aside(self, decision: SetAside, error: ErrorReport) -> None:
        parts, client = self._parts, decision.client
        failed = self._calls.get(client)
        if failed is not None and failed.greeting:
            del self._calls[client]
            parts.dispatcher.done(client)
        self.remember_aside(client, error)
        parts.rounds.set_aside(client)
        if decision.again_at is not None:
            self.coming_back.add(client)
            wait = max(0.0, decision.again_at - self._parts.clock.now)
            parts.recorder.log(f"Client {client} takes no part now; it is greeted again in {wait:.0f} s.")
        parts.recorder.tell(ClientChanged(client, ClientState.SET_ASIDE, detail=error.message))
        self._feed(ClientDown(client))

    def remember_aside(self, client: str, error: ErrorReport) -> None:
        """The run ends without ``client``, unless it comes back."""
        self._ending.set_aside[client] = replace(error, message=f"Client {client}: {error.message}")

    def _end(self, decision: EndRun) -> None:
        """The run can't go on; what ended it is told with the error that caused it."""
        report = ErrorReport(decision.error_class, decision.why, decision.hint)
        client = "" if decision.update is None else decision.update.client
        failed = self._calls.get(client)
        if failed is not None:
            error = replace(failed.error, message=f"Client {client}: {failed.error.message}")
            self._ending.set_aside[client] = error
            self._parts.dispatcher.done(client)
            hint = "\n".join(text for text in (error.hint, decision.hint) if text)
            report = replace(error, message=f"{error.message}\n{decision.why}", hint=hint)
        self._ending.be(Outcome.FAILED, report)

    def leave_marked(self, flight: InFlight) -> None:
        """``flight`` failed without a word of its site, which may be at work still and shall end that in peace."""
        if flight.mailbox is not None:
            self._marked.setdefault(UpdateId.of(flight.call.identity), []).append(flight.mailbox)

    def unmark_all(self) -> None:
        """No site is to work on any dispatch any more."""
        for update in list(self._marked):
            self.forget(update)

    def forget(self, update: UpdateId) -> None:
        """Nothing more is heard of ``update``: no site is to work on it any more."""
        for mailbox in self._marked.pop(update, ()):
            self._parts.courier.remove(mailbox)
        self._checkpoints.pop(update, None)
        self._told_running.discard(update)

    def reached(self, update: UpdateId, state: CallState) -> None:
        """Whether a call runs, or waits for nodes or a worker, decides when its deadline begins."""
        if update.dispatch == HELLO_ROUND:
            return
        if state is CallState.RUNNING and update not in self._told_running:
            self._told_running.add(update)
            self.judge(Running(update))
        elif state in (CallState.WAITING_FOR_NODES, CallState.WAITING_FOR_WORKER):
            self._told_running.discard(update)
            self.judge(Queued(update))
