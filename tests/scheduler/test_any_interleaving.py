"""Whatever happens in whatever order: every scheduler keeps its promises, and every run comes to its end.

A machine plays the runner's part and checks each action. Hypothesis chooses what happens: updates that arrive, in
time or long after their client was given up, twice, or from nobody; dispatches that are refused; clients that go
down and come up, or come late; timers that fire on time or late.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appfl_gc.protocol.measures import Timing
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
from appfl_gc.protocol.schedule_json import action_from_json, event_from_json, step_to_json
from appfl_gc.scheduler.base import Counts, Scheduler
from appfl_gc.scheduler.measured import LONGEST
from appfl_gc.scheduler.registry import make_scheduler

COMPASS = {"max_local_steps": 50, "min_local_steps": 5, "speed_momentum": 0.9, "latest_time_factor": 1.2}
QUEUE = {"t_sync": 30, "warm_up_steps": 5, "safety_buffer": 3}

SECONDS = st.sampled_from([0.0, 1e-12, 0.5, 3.0, 40.0, 1e300])
CHOICE = st.randoms(use_true_random=False)


@dataclass(frozen=True)
class Sent:
    """A dispatch as the runner knows it."""

    update: UpdateId
    version: int
    steps: int
    at: float = 0.0


def through_json(step: Any, parse: Callable[[Any], Any]) -> None:
    assert parse(json.loads(json.dumps(step_to_json(step), allow_nan=False))) == step


class AnyInterleaving(RuleBasedStateMachine):
    """A runner to which anything happens; see the module."""

    name: str
    kwargs: ClassVar[Mapping[str, Any]] = {}
    buffer = 1

    def make(self) -> Scheduler:
        return make_scheduler(self.name, self.epochs, self.kwargs, 7, self.buffer)

    @initialize(clients=st.integers(1, 5), epochs=st.integers(1, 12), late=CHOICE)
    def start(self, clients: int, epochs: int, late: random.Random) -> None:
        self.clients = tuple(f"c{i}" for i in range(clients))
        self.epochs = epochs
        self.scheduler = self.make()
        self.now = 0.0
        self.version = 0
        self.timers: list[float] = []
        self.busy: dict[str, Sent] = {}
        self.lost: list[Sent] = []
        self.numbers = dict.fromkeys(self.clients, 0)
        self.waiting: dict[UpdateId, Sent] = {}
        self.folded: set[UpdateId] = set()
        self.finished = False
        self.quickest = math.inf
        self.history: list[tuple[float, Event, list[Action]]] = []
        awaited = [c for c in self.clients if not self.scheduler.waits_for_all and late.random() < 0.3]
        self.up = set(self.clients) - set(awaited)
        self.hear(Started(self.clients, tuple(awaited)))

    # The runner's part

    def hear(self, event: Event) -> None:
        actions = self.scheduler.step(self.now, event)
        if self.finished:
            assert actions == [], "nothing follows Finish"
            return
        self.history.append((self.now, event, actions))
        through_json(event, event_from_json)
        for action in actions:
            through_json(action, action_from_json)
            self.act(action, last=action is actions[-1])
        if actions and isinstance(actions[-1], Aggregate):
            self.version += 1
            self.hear(Aggregated(self.version))
        elif isinstance(event, Aggregated):
            assert Release(self.version - 1) in actions
            self.check_that_all_have_work()

    def act(self, action: Action, *, last: bool) -> None:
        match action:
            case Dispatch():
                assert action.client in self.up
                assert action.client not in self.busy
                assert action.version == self.version
                assert action.dispatch > self.numbers[action.client]
                self.numbers[action.client] = action.dispatch
                steps = action.args.get("local_steps", 10)
                assert isinstance(steps, int)
                assert steps >= 1
                update = UpdateId(action.client, action.dispatch)
                if self.scheduler.counts is Counts.UPDATES:
                    in_time = [sent for sent in self.busy.values() if not self.may_be_overdue(sent)]
                    assert len(in_time) + len(self.waiting) + len(self.folded) < self.epochs
                self.busy[action.client] = Sent(update, action.version, steps, self.now)
            case Aggregate():
                assert last
                assert action.updates
                order = [(self.clients.index(u.client), u.dispatch) for u, _ in action.updates]
                assert order == sorted(set(order))
                for update, staleness in action.updates:
                    assert staleness == self.version - self.waiting.pop(update).version >= 0
                    self.folded.add(update)
            case Release():
                assert action.version == self.version - 1
            case WakeAt():
                heapq.heappush(self.timers, action.at)
            case Cancel():
                assert self.busy.pop(action.client).update.dispatch == action.dispatch
            case Hold():
                assert action.client in self.up
                assert action.client not in self.busy
                assert action.why
            case Finish():
                self.finished = True
                assert last
                self.check_the_end()

    def check_the_end(self) -> None:
        assert not self.busy, "who still works is cancelled"
        assert not self.waiting, "nothing that was accepted is thrown away"
        done = self.version if self.scheduler.counts is Counts.ROUNDS else len(self.folded)
        assert done == self.epochs

    def check_that_all_have_work(self) -> None:
        """When a new version is there, nobody is left without work but for a reason."""
        if self.finished or self.up <= self.busy.keys():
            return
        if self.scheduler.counts is Counts.UPDATES:
            self.check_who_is_idle()
        else:
            assert "clients_per_round" in self.kwargs
            assert len(self.busy) == self.kwargs["clients_per_round"]

    def check_who_is_idle(self) -> None:
        """Where updates are counted, who is idle waits for a group, or for others that bring the last updates."""
        if len(self.busy) + len(self.waiting) + len(self.folded) >= self.epochs:
            return
        for client in self.up - self.busy.keys():
            assert any(update.client == client for update in self.waiting)
            assert self.timers, "the group's time will come"

    def may_be_overdue(self, sent: Sent) -> bool:
        """Whether it is out for three times as long as the quickest update of all took."""
        return self.now >= sent.at + 3 * self.quickest  # rounded as the scheduler rounds

    def meta(self, sent: Sent, train: float, queue: float, steps: int) -> UpdateMeta:
        timing = Timing(queue=queue, compute=train, transfer=0.25, train=train)
        return UpdateMeta(sent.update, sent.version, 10, steps, timing, {"penalty": 1.5})

    def accept(self, sent: Sent) -> None:
        """Keep book of an update that is to count: superseded ones are not, nor those of a closed sync round."""
        superseded = sent.update.dispatch < self.numbers[sent.update.client]
        closed = self.name == "SyncScheduler" and sent.version != self.version
        if not superseded and not closed:
            self.waiting[sent.update] = sent

    def deliver(self, sent: Sent, train: float = 3.0, queue: float = 0.5, steps: int = 10) -> None:
        self.accept(sent)
        meta = self.meta(sent, train, queue, steps)
        self.quickest = min(self.quickest, meta.timing.turn_around, LONGEST)
        self.hear(Arrived(meta))

    # What happens

    def going(self) -> bool:
        return not self.finished

    @precondition(lambda self: self.going() and self.busy)
    @rule(choice=CHOICE, train=SECONDS, queue=SECONDS, steps=st.integers(0, 60), later=SECONDS)
    def an_update_arrives(
        self, choice: random.Random, train: float, queue: float, steps: int, later: float
    ) -> None:
        self.now += min(later, 50.0)
        sent = self.busy.pop(choice.choice(sorted(self.busy)))
        self.deliver(sent, train, queue, steps)

    @precondition(lambda self: self.going() and self.lost)
    @rule(choice=CHOICE)
    def an_update_arrives_after_its_client_was_given_up(self, choice: random.Random) -> None:
        self.deliver(self.lost.pop(choice.randrange(len(self.lost))))

    @precondition(lambda self: self.going() and (self.waiting or self.folded))
    @rule(choice=CHOICE)
    def an_update_arrives_twice(self, choice: random.Random) -> None:
        update = choice.choice(sorted({*self.waiting, *self.folded}))
        before = dict(self.waiting)
        self.hear(Arrived(self.meta(Sent(update, 0, 1), 1.0, 1.0, 1)))
        self.hear(Refused(update, "twice"))
        assert self.waiting == before

    @precondition(lambda self: self.going() and self.busy)
    @rule(choice=CHOICE, replace=st.booleans())
    def a_dispatch_is_refused(self, choice: random.Random, replace: bool) -> None:
        client = choice.choice(sorted(self.busy))
        self.hear(Refused(self.busy.pop(client).update, "not finite", replace))

    @precondition(lambda self: self.going() and self.up)
    @rule(choice=CHOICE, refused=st.booleans())
    def a_client_goes_down(self, choice: random.Random, refused: bool) -> None:
        client = choice.choice(sorted(self.up))
        self.up.discard(client)
        sent = self.busy.pop(client, None)
        self.hear(ClientDown(client))
        if sent is not None and refused:
            self.hear(Refused(sent.update, "lost"))
        elif sent is not None:
            self.lost.append(sent)

    @precondition(lambda self: self.going() and len(self.up) < len(self.clients))
    @rule(choice=CHOICE)
    def a_client_comes_up(self, choice: random.Random) -> None:
        client = choice.choice(sorted(set(self.clients) - self.up))
        self.up.add(client)
        self.hear(ClientUp(client))

    @precondition(lambda self: self.going())
    @rule(choice=CHOICE)
    def what_is_known_is_said_again(self, choice: random.Random) -> None:
        client = choice.choice(self.clients)
        self.hear(ClientUp(client) if client in self.up else ClientDown(client))

    @rule()
    def strangers_talk(self) -> None:
        stranger = UpdateId("nobody", 1)
        for event in (
            Arrived(self.meta(Sent(stranger, 0, 1), 1.0, 1.0, 1)),
            Refused(stranger, "unknown"),
            ClientDown("nobody"),
            ClientUp("nobody"),
        ):
            self.hear(event)

    @precondition(lambda self: self.going() and self.timers)
    @rule(later=st.sampled_from([0.0, 0.0, 1.0, 500.0]))
    def a_timer_fires(self, later: float) -> None:
        self.now = max(self.now, heapq.heappop(self.timers)) + later
        self.hear(Timer())

    # What always holds

    @invariant()
    def somebody_works(self) -> None:
        if self.history_began() and not self.finished and self.up:
            assert self.busy

    @invariant()
    def who_is_idle_has_a_reason(self) -> None:
        if self.history_began() and not self.finished and self.scheduler.counts is Counts.UPDATES:
            self.check_who_is_idle()

    @invariant()
    def few_updates_wait(self) -> None:
        if self.history_began():
            waiting = [update.client for update in self.waiting]
            assert len(waiting) <= self.buffer - 1 + 2 * len(self.clients)
            if self.buffer == 1:
                assert all(waiting.count(client) <= 2 for client in self.clients)

    def history_began(self) -> bool:
        return bool(getattr(self, "history", ()))

    def teardown(self) -> None:
        """From wherever the rules led, the run ends once clients are up and deliver."""
        if not self.history_began():
            return
        for client in self.clients:
            if client not in self.up and not self.finished:
                self.up.add(client)
                self.hear(ClientUp(client))
        for _ in range(10 + 3 * self.epochs * len(self.clients)):
            if self.finished:
                break
            first = min(self.busy.values(), key=lambda sent: (sent.version, sent.update))
            if self.timers and self.timers[0] <= self.now:
                heapq.heappop(self.timers)
                self.hear(Timer())
            else:
                self.now += 1.0
                del self.busy[first.update.client]
                self.deliver(first, steps=first.steps)
        assert self.finished
        for client in self.clients:
            self.hear(ClientDown(client))
            self.hear(ClientUp(client))
        self.hear(Timer())
        self.hear(Stopping())
        for sent in self.lost:
            self.hear(Arrived(self.meta(sent, 1.0, 1.0, 1)))
        again = self.make()
        for now, event, actions in self.history:
            assert again.step(now, event) == actions, "a journal replays to the same actions"


LIMITS = settings(max_examples=60, stateful_step_count=30, deadline=None)


class Sync(AnyInterleaving):
    name = "SyncScheduler"


class SyncByLot(AnyInterleaving):
    name = "SyncScheduler"
    kwargs: ClassVar = {"clients_per_round": 2}


class Async(AnyInterleaving):
    name = "AsyncScheduler"


class AsyncWithBuffer(AnyInterleaving):
    name = "AsyncScheduler"
    buffer = 3


class Compass(AnyInterleaving):
    name = "CompassScheduler"
    kwargs = COMPASS


class Queue(AnyInterleaving):
    name = "QueueScheduler"
    kwargs = QUEUE


TestSync = Sync.TestCase
TestSync.settings = LIMITS
TestSyncByLot = SyncByLot.TestCase
TestSyncByLot.settings = LIMITS
TestAsync = Async.TestCase
TestAsync.settings = LIMITS
TestAsyncWithBuffer = AsyncWithBuffer.TestCase
TestAsyncWithBuffer.settings = LIMITS
TestCompass = Compass.TestCase
TestCompass.settings = LIMITS
TestQueue = Queue.TestCase
TestQueue.settings = LIMITS
