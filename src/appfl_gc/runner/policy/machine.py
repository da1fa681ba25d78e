"""One policy for every failure: what a failed, late or missing client means for its round and for the run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.calls import HELLO_ROUND
from appfl_gc.runner.policy.alarms import Alarms, What
from appfl_gc.runner.policy.awaited_call import AwaitedCall, Stage
from appfl_gc.runner.policy.classes import pause_before_retry
from appfl_gc.runner.policy.decisions import (
    Accepted,
    Began,
    Configured,
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
    Resumed,
    Retry,
    Running,
    Sent,
    SetAside,
    WakeAt,
)
from appfl_gc.runner.policy.roll import Roll
from appfl_gc.runner.policy.round_books import RoundBooks
from appfl_gc.runner.policy.settings import OnMissing, PolicySettings


class FailurePolicy:
    """A state machine without threads and clock: events in, decisions out; the same events give the same decisions.

    What a step decides is about one client, but for ``Resumed``. Where it ends the run that is all that it says.

    A failed call is tried again as often as ``settings`` allow for its class, the first time at once (after a minute
    where a batch system takes no more jobs), then after growing pauses. A walltime that ended with a checkpoint
    further than the one before does not count, up to ``MOST_FORGIVEN`` of them, and what the service forgot is never
    counted. Where nothing comes of a
    call it is given up, and after ``set_aside_after`` of a client in a row the client is set aside and greeted again
    later. What would fail again (a user's error, a refused source or update, wrong software, no access) is never
    tried again, and costs the client at once, for the rest of this process.

    A round (the calls of one version) that can't have its quorum any more ends the run, and so do fewer clients than
    the quorum or ``stop_below``. A round of which nothing is left at all begins anew, if enough clients are up. With
    ``on_missing: replace`` another client that is up takes the place of one whose call is given up; with ``wait``
    failures of the infrastructure are tried again without end, and where updates are folded as they come a run goes
    on with too few clients while some of them are greeted again later. Rounds can't wait in that way: they would be
    closed with fewer updates than the quorum.

    A call that misses its deadline is given up if its round has its quorum, and where there are no rounds. A round
    that has not tries it again, with a new deadline, as often as ``settings`` allow for ``LATE``, and does without it
    as soon as it can.

    Before training begins, what would fail again ends the run: nothing is lost yet. Once a run has ended, every
    further failure says so again, until ``Resumed``.

    Args:
        clients: all clients of the run.
        settings: how patient to be, until ``Configured`` says otherwise.
        rounds: the scheduler folds an update of each call of a version at once, as ``SyncScheduler`` does; else
            each call stands for itself.
        round_size: clients that a round asks for; without rounds, all.
    """

    def __init__(
        self, clients: Sequence[str], settings: PolicySettings, *, rounds: bool, round_size: int
    ) -> None:
        self._rounds = rounds
        self._round_size = round_size
        self._roll = Roll(clients)
        self._round = RoundBooks(self._roll)
        self._alarms = Alarms(self._stands)
        self._calls: dict[UpdateId, AwaitedCall] = {}
        self._newest: dict[str, int] = {}
        self._now = 0.0
        self._began = False
        self._ended = False
        self._settings = settings
        self.needed = settings.needed_of(round_size)

    @property
    def active(self) -> frozenset[str]:
        """The clients that take part."""
        return self._roll.active

    def is_open(self, update: UpdateId) -> bool:
        """Whether something may still come of ``update``: it was sent, and neither accepted nor given up."""
        return update in self._calls

    def step(self, now: float, event: PolicyEvent) -> list[Decision]:
        """Hear of ``event`` at second ``now`` of the run and decide. Takes logarithmic time but for ``Resumed``."""
        self._now = max(self._now, now)
        decisions = self._decide(event)
        wake_at = None if self._ended else self._alarms.to_set()
        return decisions if wake_at is None else [*decisions, WakeAt(wake_at)]

    def _decide(self, event: PolicyEvent) -> list[Decision]:
        match event:
            case Configured():
                self._configure(event.settings)
            case Met():
                self._met(event.client)
            case Began():
                self._began = True
            case Sent():
                self._sent(event.update, event.version)
            case Queued():
                self._in_queue(event.update)
            case Running():
                self._running(event.update)
            case Accepted():
                return self._accepted(event.update)
            case Folded():
                self._new_quorum()
                for call in self._round.begin(event.version):
                    self._is_due_now(call)
            case Failed():
                return self._failed(event)
            case Due():
                return self._due()
            case Resumed():
                return self._resumed()
        return []

    def _configure(self, settings: PolicySettings) -> None:
        """A round that began with a lower quorum keeps it to its end: its calls are out."""
        self._settings = settings
        wanted = settings.needed_of(self._round_size)
        self.needed = min(self.needed, wanted) if self._rounds and self._began else wanted

    def _new_quorum(self) -> None:
        """That of the next round. A quorum that was raised while clients were away holds once they are back."""
        wanted = self._settings.needed_of(self._round_size)
        self.needed = min(wanted, max(1, self._roll.count_without())) if self._rounds else wanted

    # Calls on their way

    def _met(self, client: str) -> None:
        self._calls.pop(UpdateId(client, HELLO_ROUND), None)
        if self._roll.met(client):
            self._round.came_up(client)

    def _sent(self, update: UpdateId, version: int) -> None:
        if update.client not in self._roll:
            return
        call = self._calls.get(update)
        if call is None:
            self._open(update, version)
        else:
            call.sent(self._now)
            self._watch(call)

    def _open(self, update: UpdateId, version: int) -> AwaitedCall:
        limit = None if update.dispatch == HELLO_ROUND else self._settings.deadline_seconds
        call = AwaitedCall(update, version, self._now, limit, None if limit is None else self._now + limit)
        self._calls[update] = call
        if not call.greeting:
            self._newest[update.client] = max(update.dispatch, self._newest.get(update.client, 0))
            if version > self._round.version:
                self._round.begin(version)
            self._round.opened(call)
        self._watch(call)
        return call

    def _in_queue(self, update: UpdateId) -> None:
        call = self._calls.get(update)
        if call is not None:
            call.queued(self._now)

    def _running(self, update: UpdateId) -> None:
        call = self._calls.get(update)
        if call is not None and call.stage is not Stage.RUNNING:
            call.running(self._now)
            self._watch(call)

    def _watch(self, call: AwaitedCall) -> None:
        if call.due_at is not None:
            self._alarms.set(call.due_at, call.update)

    def _accepted(self, update: UpdateId) -> list[Decision]:
        call = self._calls.pop(update, None)
        if call is None:
            return []
        self._roll.delivered(update.client)
        self._round.accepted(call)
        return self._give_up_the_late()

    # Failures

    def _failed(self, event: Failed) -> list[Decision]:
        update, kind = event.update, event.error_class
        call = self._calls.get(update)
        if call is None:
            if update.client not in self._roll or not self._is_new(update):
                return []
            call = self._open(update, self._round.version)
        call.failed(self._now, kind)
        got_further = event.progressed and call.got_further()
        if self._ended:
            return [self._end(update, kind, "The run has ended.", "")]
        if self._may_retry(call, kind):
            if got_further:
                # At once, but for a site that says so again and again without working.
                call.retry_at = max(self._now, call.sent_at + self._settings.retry_seconds)
            else:
                call.retry_at = self._now + pause_before_retry(self._settings, kind, call.in_a_row)
            self._watch(call)
            return [Retry(update, call.retry_at)]
        if not self._began and not kind.infrastructure:
            return [self._end(update, kind, "Nothing was trained yet, so the run ends here.", "")]
        return self._give_up(call, kind)

    def _is_new(self, update: UpdateId) -> bool:
        if update.dispatch == HELLO_ROUND:
            return not self._roll.is_up(update.client)
        return update.dispatch > self._newest.get(update.client, 0)

    def _may_retry(self, call: AwaitedCall, kind: ErrorClass) -> bool:
        if not kind.infrastructure or kind is ErrorClass.LATE:
            return False
        if kind is ErrorClass.FORGOTTEN or self._settings.on_missing is OnMissing.WAIT:
            return True
        return call.failures[kind] <= self._settings.retries_for(kind)

    def _give_up(self, call: AwaitedCall, kind: ErrorClass) -> list[Decision]:
        """Nothing comes of ``call`` any more, unless the run can't go on without it: then it ends instead."""
        aside = self._costs_the_client(call, kind)
        replace = self._is_replaced(call, kind)
        end = self._end_without(call, kind, aside=aside, replace=replace)
        return [end] if end is not None else self._close(call, kind, aside=aside, replace=replace)

    def _costs_the_client(self, call: AwaitedCall, kind: ErrorClass) -> bool:
        if call.greeting or not kind.infrastructure:
            return True
        return self._roll.failures(call.update.client) + 1 >= self._settings.set_aside_after

    def _is_replaced(self, call: AwaitedCall, kind: ErrorClass) -> bool:
        return (
            self._rounds
            and self._settings.on_missing is OnMissing.REPLACE
            and self._round.has(call)
            and not (kind is ErrorClass.LATE and self._round.arrived >= self.needed)
            and self._round.spare > 0
        )

    def _end_without(
        self, call: AwaitedCall, kind: ErrorClass, *, aside: bool, replace: bool
    ) -> EndRun | None:
        """The end of the run, if it can't go on without ``call``."""
        client = call.update.client
        left = self._roll.count_without(client) if aside else self._roll.count_without()
        return self._end_for_clients(call.update, kind, left) or self._end_of_round(call, kind, left, replace)

    def _end_for_clients(self, update: UpdateId, kind: ErrorClass, left: int) -> EndRun | None:
        """The end of the run, if ``left`` clients are too few to go on with; ``update`` is what fails."""
        client = update.client
        quorum, least = self.needed, self._settings.stop_below
        if left >= max(quorum, least):
            return None
        comes_back = (kind.infrastructure and self._settings.try_again_seconds > 0) or self._roll.may_return(
            client
        )
        if (
            self._settings.on_missing is OnMissing.WAIT
            and comes_back
            and not (self._rounds and left < quorum)
        ):
            return None
        key = "quorum" if left < quorum else "stop_below"
        return self._end(
            update,
            kind,
            f"{left} of {len(self._roll)} clients take part without {client}, and "
            f"server_configs.fault_tolerance_configs.{key} asks for {quorum if left < quorum else least}.",
            f"A lower `{key}` goes on with fewer clients.",
        )

    def _end_of_round(self, call: AwaitedCall, kind: ErrorClass, left: int, replace: bool) -> EndRun | None:
        """The end of the run, if the round of ``call`` can't have its quorum without it."""
        if not self._rounds or not self._round.has(call):
            return None
        possible = self._round.possible - 1 + replace
        # A round of which nothing is left begins anew with those that are up; they are enough, or the run has ended.
        if possible >= self.needed or possible == 0:
            return None
        return self._end(
            call.update,
            kind,
            f"Round {call.version + 1} can have {possible} updates at most without client {call.update.client}, and "
            f"its quorum is {self.needed} (server_configs.fault_tolerance_configs.quorum).",
            "A lower `quorum` goes on with fewer updates; `on_missing: replace` draws another client, and "
            "`on_missing: wait` tries again for as long as it takes.",
        )

    def _end(self, update: UpdateId, kind: ErrorClass, why: str, hint: str) -> EndRun:
        self._ended = True
        return EndRun(kind, why, hint, update)

    def _close(self, call: AwaitedCall, kind: ErrorClass, *, aside: bool, replace: bool) -> list[Decision]:
        update, client = call.update, call.update.client
        del self._calls[update]
        give_up: list[Decision] = []
        if not call.greeting:
            self._roll.failed(client)
            self._round.lost(call, replace=replace)
            give_up.append(GiveUp(update, kind, replace))
        if not aside:
            return give_up
        set_aside = self._set_aside(client, kind)
        return [*give_up, set_aside] if replace else [set_aside, *give_up]

    def _set_aside(self, client: str, kind: ErrorClass) -> SetAside:
        again_at = None
        if kind.infrastructure and self._settings.try_again_seconds > 0:
            again_at = self._now + self._roll.absence(client, self._settings.try_again_seconds)
            self._alarms.set(again_at, client)
        if self._roll.is_up(client):
            self._round.went_down(client)
        self._roll.set_aside(client, again_at)
        return SetAside(client, again_at)

    # Time

    def _stands(self, at: float, what: What) -> bool:
        """Whether an alarm of second ``at`` is still meant."""
        if isinstance(what, str):
            return self._roll.again_at(what) == at
        call = self._calls.get(what)
        return call is not None and call.due_at == at

    def _due(self) -> list[Decision]:
        """What is due for one client; for the next one ``Due`` has to come again."""
        for what in self._alarms.take_due(self._now):
            decisions = self._is_due(what) if not self._ended else []
            if decisions:
                return decisions
        return []

    def _is_due(self, what: What) -> list[Decision]:
        if isinstance(what, str):
            self._roll.greeted_again(what)
            return [GreetAgain(what)]
        call = self._calls[what]
        if not (self._rounds and self._round.has(call)):
            return self._give_up(call, ErrorClass.LATE)
        self._round.is_late(call)
        return (
            self._give_up_the_late() if self._round.arrived >= self.needed else self._try_the_late_again(call)
        )

    def _try_the_late_again(self, call: AwaitedCall) -> list[Decision]:
        """The round can't do without ``call`` yet: perhaps its site hangs."""
        waits_for_a_retry = call.stage is Stage.PAUSED
        used_up = call.failures[ErrorClass.LATE] >= self._settings.retries_for(ErrorClass.LATE)
        if not waits_for_a_retry and used_up and self._settings.on_missing is not OnMissing.WAIT:
            return self._give_up(call, ErrorClass.LATE)
        call.missed(self._settings.deadline_seconds)
        if waits_for_a_retry:
            return []
        call.retry_at = self._now
        return [Retry(call.update, self._now)]

    def _give_up_the_late(self) -> list[Decision]:
        """Once the round has its quorum, it does without those that are late, one after the other."""
        if self._ended or self._round.arrived < self.needed:
            return []
        call = self._round.next_late()
        if call is None:
            return []
        decisions = self._give_up(call, ErrorClass.LATE)
        following = self._round.next_late()
        if following is not None:
            self._is_due_now(following)
        return decisions

    def _is_due_now(self, call: AwaitedCall) -> None:
        call.due_at = self._now
        self._alarms.set(self._now, call.update)

    def _resumed(self) -> list[Decision]:
        ended, self._ended = self._ended, False
        self._alarms.forget_waking()
        decisions: list[Decision] = []
        for client in self._roll.aside:
            self._roll.greeted_again(client)
            decisions.append(GreetAgain(client))
        for call in self._calls.values():
            if call.greeting:
                call.forgive()
                continue
            self._round.in_time(call)
            call.begin_anew(self._now, self._settings.deadline_seconds)
            self._watch(call)
            if call.stage is Stage.PAUSED:
                call.retry_at = self._now if ended else max(self._now, call.retry_at)
                decisions.append(Retry(call.update, call.retry_at))
        return decisions
