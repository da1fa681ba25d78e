"""Telling the scheduler what happens, and doing what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
    Aggregated,
    Cancel,
    Dispatch,
    Event,
    Finish,
    Hold,
    Release,
    Started,
    Timer,
    UpdateId,
    UpdateMeta,
    WakeAt,
)
from appfl_gc.protocol.schedule_json import step_to_json
from appfl_gc.runner.ending import Ending
from appfl_gc.runner.events import ClientChanged, ClientState, Outcome
from appfl_gc.runner.journal import STEP
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.policy.decisions import Folded, PolicyEvent, Sent
from appfl_gc.runner.timers import Timed, Timers
from appfl_gc.scheduler.base import Counts


class Steering:
    """Feeds the scheduler and acts for it.

    Args:
        parts: of the run.
        ending: of the run.
        timers: of the run.
        hear: tells the failure policy.
        started: the scheduler has begun before.
    """

    def __init__(
        self,
        parts: Parts,
        ending: Ending,
        timers: Timers[Timed],
        hear: Callable[[PolicyEvent], None],
        *,
        started: bool = False,
    ) -> None:
        self._parts = parts
        self._ending = ending
        self._timers = timers
        self._hear = hear
        self.started = started

    def feed(self, event: Event, due: float = 0.0) -> None:
        """Tell the scheduler and do what it answers; nothing before it was ``Started`` and after the run has ended.

        Event, time and actions are journaled, so that the journal replays to the same actions. Time never goes back,
        and is not before ``due``.
        """
        if isinstance(event, Started):
            self.started = True
        if self._ending.outcome is not None or not self.started:
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
                self._ending.be(Outcome.PARTIAL if self._ending.set_aside else Outcome.FINISHED)

    def dispatch(self, actions: Sequence[Dispatch]) -> None:
        """Send out what the scheduler dispatched in one step."""
        sent: set[str] = set()
        for action in actions:
            self._check_free(action.client, sent)
            sent.add(action.client)
        ready = [(self._call_of(action, first=number == 0), action) for number, action in enumerate(actions)]
        for _, action in ready:
            self._hear(Sent(UpdateId(action.client, action.dispatch), action.version))
        self._parts.outgoing.request([(call, action.version) for call, action in ready])

    def _cancel(self, action: Cancel) -> None:
        """The scheduler has no use for a dispatch any more; its site stops, if it can be told."""
        flight = self._parts.dispatcher.flight(action.client)
        if flight is not None and flight.call.identity.round == action.dispatch:
            self._parts.courier.unmark(flight)

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
            parts.clock.now,
            "aggregated",
            version=version,
            updates=[[update.client, update.dispatch, behind] for update, behind in action.updates],
            model=parts.model.file.name,
            checksum=parts.model.checksum(),
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
        parts.rounds.finish(metas, staleness, parts.clock.now)
        self._hear(Folded(parts.model.version))
