"""Whatever happens to whichever call: the failure policy forgets no client and no call, and keeps to its settings.

A machine plays the runner's part for a synchronous and for an asynchronous run, with the schedulers that they have:
it carries out decisions and actions in order and checks each. Hypothesis chooses the settings and what happens.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import (
    Aggregate,
    Aggregated,
    Arrived,
    Cancel,
    ClientDown,
    ClientUp,
    Dispatch,
    Event,
    Finish,
    Refused,
    Started,
    UpdateId,
    UpdateMeta,
)
from appfl_gc.protocol.schedule import Timer as SchedulerTimer
from appfl_gc.protocol.schedule import WakeAt as SchedulerWakeAt
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
from appfl_gc.runner.policy.machine import FailurePolicy
from appfl_gc.runner.policy.settings import OnMissing, PolicySettings
from appfl_gc.scheduler.asynchronous import AsyncScheduler
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.sync import SyncScheduler

EPOCHS = 6
LASTING = [kind for kind in ErrorClass if not kind.infrastructure]
PASSING = [kind for kind in ErrorClass if kind.infrastructure and kind is not ErrorClass.LATE]
CHOICE = st.randoms(use_true_random=False)
LATER = st.sampled_from([0.0, 0.5, 7.0, 40.0, 700.0])

SETTINGS = st.builds(
    PolicySettings,
    quorum=st.sampled_from([1, 2, 3, 0.5, 0.67, 1.0]),
    deadline_seconds=st.sampled_from([None, 5.0, 30.0]),
    retries=st.integers(0, 3),
    retries_of=st.sampled_from([{}, {ErrorClass.WALLTIME: 4}, {ErrorClass.TRANSFER: 0}]),
    retry_seconds=st.sampled_from([0.5, 5.0]),
    on_missing=st.sampled_from(OnMissing),
    set_aside_after=st.integers(1, 3),
    try_again_seconds=st.sampled_from([0.0, 20.0, 600.0]),
    stop_below=st.integers(1, 2),
)


class AnyFailure(RuleBasedStateMachine):
    """A runner to which anything happens; see the module."""

    rounds: bool

    @initialize(clients=st.integers(2, 6), drawn=st.integers(1, 6), settings=SETTINGS)
    def start(self, clients: int, drawn: int, settings: PolicySettings) -> None:
        self.clients = tuple(f"c{i}" for i in range(clients))
        self.settings = settings
        self.round_size = min(drawn, clients) if self.rounds else clients
        self.policy = self.make()
        self.scheduler: Scheduler = (
            SyncScheduler(EPOCHS, drawn, 7) if self.rounds else AsyncScheduler(3 * EPOCHS)
        )
        self.now = 0.0
        self.version = 0
        self.alarms: list[float] = []
        self.timers: list[float] = []
        self.greeted: set[str] = set()
        self.busy: dict[str, Sent] = {}
        self.paused: dict[str, tuple[UpdateId, float]] = {}
        self.aside: dict[str, float | None] = {}
        self.lost_in_a_row: Counter[str] = Counter()
        self.unheard: list[Event] = []
        self.first_sent: dict[UpdateId, float] = {}
        self.arrived = 0
        self.failures: dict[UpdateId, Counter[ErrorClass]] = {}
        self.history: list[tuple[float, PolicyEvent, list[Decision]]] = []
        self.started = self.finished = self.ended = self.resuming = False
        self.tell(Configured(settings))
        for client in self.clients:
            self.tell(Sent(UpdateId(client, 0), 0))
            self.greeted.add(client)

    def make(self) -> FailurePolicy:
        return FailurePolicy(self.clients, PolicySettings(), rounds=self.rounds, round_size=self.round_size)

    # The runner's part

    def tell(self, event: PolicyEvent) -> list[Decision]:
        decisions = self.policy.step(self.now, event)
        self.history.append((self.now, event, decisions))
        aside = [one.client for one in decisions if isinstance(one, SetAside)]
        for one in decisions:
            if isinstance(one, GiveUp):
                client = one.update.client
                self.lost_in_a_row[client] += 1
                enough = self.lost_in_a_row[client] >= self.settings.set_aside_after
                assert aside == ([client] if enough or not one.error_class.infrastructure else [])
        for decision in decisions:
            self.carry_out(decision)
        return decisions

    def carry_out(self, decision: Decision) -> None:
        match decision:
            case Retry(update, at):
                assert at >= self.now
                if update.client in self.busy:
                    self.check_what_is_late(update)
                    self.paused[update.client] = (self.busy.pop(update.client).update, math.inf)
                assert self.paused.pop(update.client) == (update, math.inf), (
                    "at most one retry is decided at a time"
                )
                self.paused[update.client] = (update, at)
            case GiveUp(update):
                self.give_up(decision)
            case SetAside(client, again_at):
                assert again_at is None or again_at > self.now
                self.aside[client] = again_at
                self.failures.pop(UpdateId(client, 0), None)
                if client in self.paused and self.paused[client][0].dispatch == 0:
                    del self.paused[client]
                if self.started:
                    self.schedule(ClientDown(client))
            case GreetAgain(client):
                again_at = self.aside[client]
                assert self.resuming or (again_at is not None and again_at <= self.now)
                self.aside[client] = None
                self.greeted.add(client)
                self.tell(Sent(UpdateId(client, 0), 0))
            case EndRun():
                self.check_the_end()
                self.ended = True
            case WakeAt(at):
                heapq.heappush(self.alarms, at)

    def check_what_is_late(self, update: UpdateId) -> None:
        """A call that did not fail is tried again if it is late, and its round needs it."""
        assert isinstance(self.history[-1][1], Due)
        assert self.rounds
        assert self.arrived < self.policy.needed
        failures = self.failures.setdefault(update, Counter())
        failures[ErrorClass.LATE] += 1
        without_end = self.settings.on_missing is OnMissing.WAIT
        assert without_end or failures[ErrorClass.LATE] <= self.settings.retries

    def check_the_end(self) -> None:
        """A run ends for too few clients, or for a round that can't have its quorum."""
        event = self.history[-1][1]
        too_few = len(self.policy.active) - 1 < max(self.policy.needed, self.settings.stop_below)
        calls = [sent.update for sent in self.busy.values()] + [update for update, _ in self.paused.values()]
        possible = self.arrived + sum(update.dispatch != 0 for update in calls) - 1
        greeting = isinstance(event, Failed) and event.update.dispatch == 0
        lost = self.rounds and isinstance(event, Failed | Due) and not greeting
        assert too_few or (lost and possible < self.policy.needed)

    def give_up(self, decision: GiveUp) -> None:
        update = decision.update
        working = self.busy.pop(update.client, None)
        paused = self.paused.pop(update.client, None)
        assert (working is None) != (paused is None)
        assert not decision.replace or self.settings.on_missing is OnMissing.REPLACE
        before = set(self.busy)
        self.schedule(Refused(update, "given up", decision.replace))
        if decision.replace:
            assert len(set(self.busy) - before) == 1, "a promised client takes the place"

    def schedule(self, event: Event) -> None:
        if self.finished:
            return
        if self.ended:
            self.unheard.append(event)
            return
        actions = self.scheduler.step(self.now, event)
        for action in actions:
            match action:
                case Dispatch(client, dispatch, version):
                    assert client in self.policy.active
                    assert client not in self.busy
                    assert client not in self.paused
                    self.busy[client] = Sent(UpdateId(client, dispatch), version)
                    self.first_sent[UpdateId(client, dispatch)] = self.now
                case Aggregate(updates):
                    self.fold(len(updates))
                case SchedulerWakeAt(at):
                    heapq.heappush(self.timers, at)
                case Cancel(client):
                    self.busy.pop(client, None)
                    self.paused.pop(client, None)
                case Finish():
                    self.finished = True
        for action in actions:
            if isinstance(action, Dispatch):
                self.tell(self.busy[action.client])

    def fold(self, updates: int) -> None:
        if self.rounds:
            assert updates >= self.policy.needed, "no round is closed without its quorum"
        self.version += 1
        self.arrived = 0
        self.tell(Folded(self.version))
        self.schedule(Aggregated(self.version))

    def answer(self, client: str) -> None:
        """``client`` answers its greeting, or delivers."""
        if client in self.greeted:
            self.greeted.discard(client)
            self.aside.pop(client, None)
            self.lost_in_a_row[client] = 0
            self.tell(Met(client))
            if self.started:
                self.schedule(ClientUp(client))
            return
        sent = self.busy.pop(client)
        self.arrived += 1
        self.lost_in_a_row[client] = 0
        self.tell(Accepted(sent.update))
        timing = Timing(queue=0.0, compute=1.0, transfer=0.0, train=1.0)
        self.schedule(Arrived(UpdateMeta(sent.update, sent.version, 10, 10, timing)))

    def fail(self, client: str, kind: ErrorClass, progressed: bool = False) -> None:
        """What ``client`` is at fails; the policy must do something about it."""
        greeting = client in self.greeted
        update = UpdateId(client, 0) if greeting else self.busy.pop(client).update
        self.greeted.discard(client)
        self.paused[client] = (update, math.inf)  # until it is decided
        expected = self.is_worth_another_try(update, kind, progressed)
        decisions = self.tell(Failed(update, kind, progressed))
        tried_again = any(isinstance(one, Retry) for one in decisions)
        ends = any(isinstance(one, EndRun) for one in decisions)
        assert len(decisions) == 1 or not ends, "the end comes alone"
        assert ends or tried_again or not self.policy.is_open(update), "every failure is decided about"
        assert tried_again == expected
        if not kind.infrastructure:
            assert ends or self.aside[client] is None

    def is_worth_another_try(self, update: UpdateId, kind: ErrorClass, progressed: bool) -> bool:
        failures = self.failures.setdefault(update, Counter())
        failures[kind] += 1
        if progressed:
            failures.clear()
        if not kind.infrastructure:
            return False
        without_end = progressed or kind is ErrorClass.FORGOTTEN or self.settings.on_missing is OnMissing.WAIT
        retries = self.settings.retries_of.get(kind, self.settings.retries)
        return without_end or failures[kind] <= retries

    # What happens

    def going(self) -> bool:
        return hasattr(self, "clients") and not self.finished and not self.ended

    def at_work(self) -> list[str]:
        return sorted({*self.greeted, *self.busy})

    @precondition(lambda self: self.going() and self.at_work())
    @rule(choice=CHOICE, later=LATER)
    def something_is_answered(self, choice: random.Random, later: float) -> None:
        self.pass_time(later)
        if self.going() and self.at_work():
            self.answer(choice.choice(self.at_work()))

    @precondition(lambda self: self.going() and self.at_work())
    @rule(choice=CHOICE, later=LATER, kind=st.sampled_from(PASSING), progressed=st.booleans())
    def something_fails(
        self, choice: random.Random, later: float, kind: ErrorClass, progressed: bool
    ) -> None:
        self.pass_time(later)
        if self.going() and self.at_work():
            client = choice.choice(self.at_work())
            self.fail(client, kind, progressed and kind is ErrorClass.WALLTIME)

    @precondition(lambda self: self.going() and self.started and self.at_work())
    @rule(choice=CHOICE, kind=st.sampled_from(LASTING))
    def something_fails_for_good(self, choice: random.Random, kind: ErrorClass) -> None:
        self.fail(choice.choice(self.at_work()), kind)

    @precondition(lambda self: self.going() and self.busy)
    @rule(choice=CHOICE, running=st.booleans())
    def a_site_is_heard_of(self, choice: random.Random, running: bool) -> None:
        update = self.busy[choice.choice(sorted(self.busy))].update
        self.first_sent.pop(update, None)  # its deadline is another one now
        self.tell(Running(update) if running else Queued(update))

    @precondition(lambda self: self.going())
    @rule(choice=CHOICE, kind=st.sampled_from(ErrorClass), number=st.integers(1, 3))
    def what_was_given_up_is_heard_of(self, choice: random.Random, kind: ErrorClass, number: int) -> None:
        update = UpdateId(choice.choice([*self.clients, "nobody"]), number)
        if not any(
            event == Sent(update, self.version) for _, event, _ in self.history
        ) or self.policy.is_open(update):
            return
        for event in (Failed(update, kind), Accepted(update), Running(update), Queued(update)):
            assert self.tell(event) == [], "what was closed stays so"

    @precondition(lambda self: self.going() and (self.alarms or self.paused))
    @rule()
    def the_next_thing_is_due(self) -> None:
        times = [at for _, at in self.paused.values()] + self.alarms[:1]
        if min(times) < math.inf:
            self.pass_time(max(0.0, min(times) - self.now))

    def pass_time(self, seconds: float) -> None:
        """Alarms and retries whose time comes are dealt with on the way."""
        end = self.now + seconds
        while self.going():
            times = [at for _, at in self.paused.values()] + self.alarms[:1] + self.timers[:1]
            if not times or min(times) > end:
                break
            self.now = max(self.now, min(times))
            self.whatever_is_due()
        self.now = max(self.now, end)

    def whatever_is_due(self) -> None:
        if self.alarms and self.alarms[0] <= self.now:
            heapq.heappop(self.alarms)
            self.tell(Due())
        if self.timers and self.timers[0] <= self.now:
            heapq.heappop(self.timers)
            self.schedule(SchedulerTimer())
        for client, (update, at) in list(self.paused.items()):
            if at <= self.now and self.going() and self.paused.get(client) == (update, at):
                self.send_again(client, update)

    def send_again(self, client: str, update: UpdateId) -> None:
        del self.paused[client]
        if update.dispatch == 0:
            self.greeted.add(client)
            self.tell(Sent(update, 0))
        else:
            sent = [
                event for _, event, _ in self.history if isinstance(event, Sent) and event.update == update
            ]
            self.busy[client] = sent[0]
            self.tell(sent[0])

    @precondition(lambda self: hasattr(self, "clients") and self.started and not self.finished)
    @rule(settings=st.one_of(st.none(), SETTINGS))
    def another_process_goes_on(self, settings: PolicySettings | None) -> None:
        policy = self.make()
        for now, event, decisions in self.history:
            assert policy.step(now, event) == decisions, "the same events give the same decisions"
        assert policy.active == self.policy.active
        self.policy, self.ended = policy, False
        self.alarms.clear()
        self.failures.clear()
        self.first_sent = dict.fromkeys(self.first_sent, self.now)
        # Greetings that nobody answered are for whoever resumes.
        unmet = {c for c, (update, _) in self.paused.items() if update.dispatch == 0} | self.greeted
        self.greeted.clear()
        self.paused = {
            c: (update, math.inf) for c, (update, _) in self.paused.items() if update.dispatch != 0
        }
        self.resuming = True
        if settings is not None:
            self.settings = settings
            self.tell(Configured(settings))
        decisions = self.tell(Resumed())
        self.resuming = False
        assert {one.client for one in decisions if isinstance(one, GreetAgain)} == self.aside.keys()
        assert {one.update.client for one in decisions if isinstance(one, Retry)} == self.paused.keys()
        for client in unmet - self.aside.keys():
            self.greeted.add(client)
            self.tell(Sent(UpdateId(client, 0), 0))
        unheard, self.unheard = self.unheard, []
        for event in unheard:
            self.schedule(event)

    @rule()
    def nothing_happens(self) -> None:
        """There is always something that hypothesis can do."""

    # What always holds

    @invariant()
    def the_run_begins_when_all_are_met(self) -> None:
        """As the runner does it, where the scheduler waits for all; before any other invariant is looked at."""
        if not hasattr(self, "clients") or self.started or self.ended:
            return
        if self.greeted or any(
            update.dispatch == 0 and c not in self.aside for c, (update, _) in self.paused.items()
        ):
            return
        self.started = True
        self.tell(Began())
        self.schedule(Started(self.clients, tuple(self.aside)))

    @invariant()
    def nobody_is_forgotten(self) -> None:
        if self.going() and self.started:
            assert self.policy.active == set(self.clients) - self.aside.keys()
            for again_at in self.aside.values():
                assert again_at is None or self.alarms[0] <= again_at

    @invariant()
    def nobody_late_is_waited_for(self) -> None:
        limit = self.settings.deadline_seconds if hasattr(self, "clients") else None
        if limit is None or not self.going() or (self.rounds and self.arrived < self.policy.needed):
            return
        for sent in self.busy.values():
            if sent.update in self.first_sent and self.now > self.first_sent[sent.update] + limit:
                assert self.alarms[0] <= self.now

    @invariant()
    def something_is_to_be_waited_for(self) -> None:
        if self.going() and self.started:
            assert self.busy or self.greeted or self.paused or self.alarms

    @invariant()
    def a_client_is_at_one_thing(self) -> None:
        if not hasattr(self, "clients") or self.finished:
            return
        assert not self.busy.keys() & self.paused.keys()
        assert not self.greeted & self.paused.keys()
        for client, sent in self.busy.items():
            assert self.policy.is_open(sent.update)
            assert client not in self.greeted

    @invariant()
    def enough_take_part(self) -> None:
        # Whoever goes on with stricter settings greets those that are set aside: what they answer decides.
        greeted = self.greeted | {c for c, (update, _) in self.paused.items() if update.dispatch == 0}
        if greeted & self.aside.keys():
            return
        if self.going() and self.started and self.settings.on_missing is not OnMissing.WAIT:
            assert len(self.policy.active) >= max(self.policy.needed, self.settings.stop_below)

    def teardown(self) -> None:
        """From wherever the rules led, the run ends once everybody answers."""
        if not hasattr(self, "clients"):
            return
        for _ in range(1000):
            if not self.going():
                break
            self.the_run_begins_when_all_are_met()
            if self.at_work():
                self.answer(self.at_work()[0])
            else:
                self.the_next_thing_is_due()
        assert self.finished or self.ended
        again = self.make()
        assert [again.step(now, event) for now, event, _ in self.history] == [d for _, _, d in self.history]


class Rounds(AnyFailure):
    rounds = True


class Updates(AnyFailure):
    rounds = False


TestRounds = Rounds.TestCase
TestUpdates = Updates.TestCase
TestRounds.settings = TestUpdates.settings = hypothesis_settings(max_examples=100, stateful_step_count=40)
