"""The event loop: the one place that knows scheduler, aggregator, control plane, stores and policy."""

from __future__ import annotations

import logging
import math
import queue
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.config import ClientConfig
from appfl_gc.control.plane import ControlPlane
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.stores import Stores
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, ErrorClass, ErrorReport
from appfl_gc.protocol.measures import Timing
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
    UpdateMeta,
    WakeAt,
)
from appfl_gc.protocol.wire import WireError, as_int
from appfl_gc.runner.calls import HELLO_ROUND, CallFactory
from appfl_gc.runner.dispatcher import Dispatcher, InFlight
from appfl_gc.runner.events import (
    ClientChanged,
    ClientFailed,
    ClientState,
    ClientTrained,
    Outcome,
    RoundFinished,
    RoundStarted,
)
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox, Interrupted
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.metrics import MetricsFile, deciding_loss, numeric_metrics, weighted_means
from appfl_gc.runner.policy import FailurePolicy, Verdict
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.validation import ServerValidation
from appfl_gc.scheduler.base import Scheduler


@dataclass(frozen=True)
class Parts:
    """What a run is made of; the run owns none of it."""

    clients: Mapping[str, ClientConfig]
    directory: RunDirectory
    calls: CallFactory
    plane: ControlPlane
    stores: Stores
    arena: Arena
    scheduler: Scheduler
    aggregator: Aggregator | UserClassAggregator
    policy: FailurePolicy
    model: GlobalModel
    journal: Journal
    metrics: MetricsFile
    recorder: Recorder
    validation: ServerValidation | None
    inbox: Inbox


@dataclass(frozen=True)
class _Landed:
    meta: UpdateMeta
    slot: int
    metrics: Mapping[str, float]


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        rounds: aggregations so far.
        metrics: of the last one.
        outcome: how the run ended, or None while it goes on.
        error: why, when it failed.
        set_aside: clients that take no part any more, with the reason.
    """

    rounds: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    outcome: Outcome | None = None
    error: ErrorReport | None = None
    set_aside: dict[str, ErrorReport] = field(default_factory=dict)


class FederatedRun:
    """Drives one run from the first hello to the last aggregation."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._dispatcher = Dispatcher(parts.plane, parts.inbox)
        self._start = time.monotonic()
        self._round_start = self._start
        self._best = math.inf
        self._landed: dict[UpdateId, _Landed] = {}
        self._free = list(range(len(parts.clients)))[::-1]
        self._acknowledged: dict[str, int] = {}
        self._wake_at: float | None = None
        self.state = RunState()

    def execute(self) -> RunState:
        """Run until the scheduler finishes, too few clients are left, or somebody interrupts."""
        self._greet()
        if self.state.outcome is None:
            self._feed(Started(tuple(c for c in self._parts.clients if c in self._parts.policy.active)))
        while self.state.outcome is None:
            self._next()
        return self.state

    @property
    def now(self) -> float:
        """Seconds of run."""
        return time.monotonic() - self._start

    # The inbox

    def _greet(self) -> None:
        """Say hello to every client and wait for all answers; nothing is trained before."""
        for client in self._parts.clients.values():
            self._dispatcher.send(self._parts.calls.hello(client), version=0)
            self._parts.recorder.tell(ClientChanged(client.client_id, ClientState.CONNECTING))
        refusals: list[ErrorReport] = []
        while self._dispatcher.busy and self.state.outcome is not Outcome.INTERRUPTED:
            self._next(refusals)
        if len(refusals) > 1 and self.state.error is not None:
            text = "\n".join(str(report) for report in refusals)
            self.state.error = ErrorReport(refusals[0].error_class, text, "", (), refusals[0].trace)

    def _next(self, refusals: list[ErrorReport] | None = None) -> None:
        try:
            timeout = None if self._wake_at is None else max(0.0, self._wake_at - self.now)
            item = self._parts.inbox.get(timeout=timeout)
        except queue.Empty:
            self._wake_at = None
            self._feed(Timer())
            return
        if isinstance(item, Interrupted):
            self._parts.recorder.log(f"{item.signal}: the run ends; what is done is saved.", logging.WARNING)
            self._end(Outcome.INTERRUPTED)
            self._feed(Stopping())
            return
        flight = self._dispatcher.take(item)
        if flight is None:
            return
        if item.reply is not None:
            self._parts.recorder.client_lines(flight.call.identity.client, item.reply.log)
        error = item.error
        if error is None and item.reply is not None:
            error = self._accept(flight, item.reply, item.at)
        if error is not None:
            error = _about(flight, error)
            if self._failed(flight, error, before_training=refusals is not None) and refusals is not None:
                refusals.append(error)

    def _accept(self, flight: InFlight, reply: Reply, at: float) -> ErrorReport | None:
        """Take a good reply in; what is wrong with it, if it is not good after all."""
        try:
            if flight.call.identity.round == HELLO_ROUND:
                self._met(flight, reply)
            else:
                self._land(flight, reply, at)
        except WireError as error:
            return ErrorReport(ErrorClass.PROTOCOL, str(error))
        except AppflGcError as error:
            return error.report
        return None

    def _met(self, flight: InFlight, reply: Reply) -> None:
        client = flight.call.identity.client
        values = reply.values
        size = as_int(values.get("sample_size", 0), "The sample size")
        if values.get("torch") is not True:
            raise DeliveryError("The site has no torch, so it can't train.", "pip install torch at the site.")
        if self._parts.calls.threads[client] == 0:
            self._parts.calls.threads[client] = as_int(values.get("threads"), "The site's threads")
        self._parts.journal.append(self.now, "hello", client=client, values=dict(values))
        place = f"user code runs in {values.get('working_directory')}"
        self._parts.recorder.log(f"Client {client}: {size} training samples; {place}. {values.get('policy')}")
        self._parts.recorder.tell(ClientChanged(client, ClientState.READY, detail=f"{size} samples"))

    def _land(self, flight: InFlight, reply: Reply, at: float) -> None:
        """Pass the update through the gate into a slot of the arena and tell the scheduler."""
        identity = flight.call.identity
        update = UpdateId(identity.client, identity.round)
        reference = reply.payloads.get("update")
        if reference is None:
            raise WireError("The reply has no update.")
        sample_size = as_int(reply.values.get("sample_size"), "The sample size")
        if sample_size < 0:
            raise WireError("The sample size is negative.")
        slot = self._free.pop()
        landing = time.monotonic()
        try:
            self._parts.arena.land(slot, reference, self._parts.stores)
        except AppflGcError:
            self._free.append(slot)
            raise
        turn_around = at - flight.sent
        split = Timing.split(turn_around, reply.measures)
        timing = Timing(split.queue, split.compute, split.transfer + time.monotonic() - landing)
        meta = UpdateMeta(update, flight.version, sample_size, reply.measures.steps, timing)
        metrics = numeric_metrics(reply.values.get("metrics"))
        self._landed[update] = _Landed(meta, slot, metrics)
        self._acknowledged[identity.client] = identity.round
        self._parts.stores.evict(reference)
        parts = self._parts
        parts.journal.append(
            self.now,
            "arrived",
            client=identity.client,
            round=identity.round,
            attempt=identity.attempt,
            version=flight.version,
            checksum=reference.checksum,
            sample_size=sample_size,
            measures=reply.measures.to_json(),
            queue=timing.queue,
        )
        parts.metrics.write(
            {
                "kind": "client",
                "round": identity.round,
                "client": identity.client,
                "at": self.now,
                "sample_size": sample_size,
                "steps": reply.measures.steps,
                "queue_seconds": timing.queue,
                "compute_seconds": timing.compute,
                "transfer_seconds": timing.transfer,
                "bytes_up": reference.size,
                **metrics,
            }
        )
        model = flight.call.payloads["model"]
        parts.recorder.tell(
            ClientTrained(identity.client, identity.round, reply.measures.steps, sample_size, timing, metrics)
        )
        parts.recorder.tell(
            ClientChanged(
                identity.client,
                ClientState.ARRIVED,
                identity.round,
                bytes_down=model.size,
                bytes_up=reference.size,
            )
        )
        self._feed(Arrived(meta))

    # Failures

    def _failed(self, flight: InFlight, error: ErrorReport, before_training: bool) -> bool:
        """Do what the policy says; whether the client is lost."""
        parts, identity = self._parts, flight.call.identity
        verdict = parts.policy.failed(identity.client, error.error_class, identity.attempt, before_training)
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
        parts.recorder.tell(
            ClientFailed(identity.client, identity.round, error, final=verdict is not Verdict.RETRY)
        )
        if verdict is Verdict.RETRY:
            self._dispatcher.send_again(flight, compute_again=error.error_class is ErrorClass.TRANSFER)
            parts.recorder.tell(ClientChanged(identity.client, ClientState.RETRYING, identity.round))
            return False
        self.state.set_aside[identity.client] = error
        parts.recorder.tell(
            ClientChanged(identity.client, ClientState.SET_ASIDE, identity.round, detail=error.message)
        )
        if verdict is Verdict.END_RUN:
            self._end(Outcome.FAILED, error)
        elif not before_training:
            self._feed(Refused(UpdateId(identity.client, identity.round), error.message))
            self._feed(ClientDown(identity.client))
        return True

    def _end(self, outcome: Outcome, error: ErrorReport | None = None) -> None:
        if self.state.outcome is None:
            self.state.outcome, self.state.error = outcome, error

    # The scheduler

    def _feed(self, event: Event) -> None:
        for action in self._parts.scheduler.step(self.now, event):
            if self.state.outcome is None:
                self._act(action)

    def _act(self, action: Action) -> None:
        if isinstance(action, Dispatch):
            self._dispatch(action)
        elif isinstance(action, Aggregate):
            self._aggregate(action)
        elif isinstance(action, Release):
            self._parts.model.release(self._dispatcher.in_use())
        elif isinstance(action, WakeAt):
            self._wake_at = action.at if self._wake_at is None else min(self._wake_at, action.at)
        elif isinstance(action, Hold):
            self._parts.recorder.tell(ClientChanged(action.client, ClientState.WAITING, detail=action.why))
        elif isinstance(action, Finish):
            self._end(Outcome.PARTIAL if self.state.set_aside else Outcome.FINISHED)
        elif isinstance(action, Cancel):
            self._parts.journal.append(self.now, "cancel", client=action.client, round=action.dispatch)

    def _dispatch(self, action: Dispatch) -> None:
        parts = self._parts
        client = parts.clients[action.client]
        if not self._dispatcher.busy and action.version == self.state.rounds:
            self._round_start = time.monotonic()
            parts.recorder.tell(RoundStarted(action.dispatch))
        model = parts.model.reference(action.version)
        call = parts.calls.train(
            client,
            action.dispatch,
            model,
            parts.stores.grant(),
            action.args,
            self._acknowledged.get(action.client, 0),
        )
        parts.journal.append(
            self.now,
            "dispatch",
            client=action.client,
            round=action.dispatch,
            version=action.version,
            model=model.checksum,
            nonce=call.nonce,
            seed=call.seed,
            threads=call.threads,
            args=dict(action.args),
        )
        parts.journal.flush()
        self._dispatcher.send(call, action.version)
        parts.recorder.tell(ClientChanged(action.client, ClientState.WORKING, action.dispatch))

    def _aggregate(self, action: Aggregate) -> None:
        parts = self._parts
        chosen = [self._landed.pop(update) for update, _ in action.updates]
        metas = [landed.meta for landed in chosen]
        staleness = [behind for _, behind in action.updates]
        slots = [landed.slot for landed in chosen]
        version = parts.model.advance(parts.aggregator, parts.arena, slots, metas, staleness)
        for slot in slots:
            parts.arena.free(slot)
        self._free.extend(slots)
        parts.journal.append(
            self.now,
            "aggregated",
            version=version,
            updates=[[update.client, update.dispatch, behind] for update, behind in action.updates],
            model=parts.model.file.name,
        )
        parts.journal.flush()
        parts.directory.keep_model(parts.model.file, parts.directory.last)
        self._finish_round([(landed.meta.sample_size, landed.metrics) for landed in chosen])
        self._feed(Aggregated(version))

    def _finish_round(self, rows: list[tuple[int, Mapping[str, float]]]) -> None:
        parts = self._parts
        metrics: dict[str, float] = weighted_means(rows)
        if parts.validation is not None:
            metrics.update(parts.validation.evaluate(parts.model.file))
        loss = deciding_loss(metrics)
        improved = loss is not None and loss < self._best
        if improved and loss is not None:
            self._best = loss
            parts.directory.keep_model(parts.model.file, parts.directory.best)
        self.state.rounds += 1
        self.state.metrics = metrics
        seconds = time.monotonic() - self._round_start
        parts.metrics.write(
            {
                "kind": "round",
                "round": self.state.rounds,
                "at": self.now,
                "seconds": seconds,
                "clients": len(rows),
                **metrics,
            }
        )
        parts.recorder.tell(RoundFinished(self.state.rounds, seconds, metrics, improved))


def _about(flight: InFlight, error: ErrorReport) -> ErrorReport:
    """``error`` with the client and its endpoint named."""
    client = flight.call.identity.client
    named = error.message if f"lient {client}" in error.message else f"Client {client}: {error.message}"
    return ErrorReport(error.error_class, named, error.hint, error.frames, error.trace)
