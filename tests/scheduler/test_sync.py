"""The synchronous scheduler: rounds that end, and updates that are used once, whatever happens in between."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
    Aggregated,
    Arrived,
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
)
from appfl_gc.scheduler.sync import SyncScheduler


def arrived(client: str, round_: int) -> Arrived:
    return Arrived(UpdateMeta(UpdateId(client, round_), round_ - 1, 10, 5, Timing(0, 0, 0, 0)))


def refused(client: str, round_: int) -> Refused:
    return Refused(UpdateId(client, round_), "not finite")


def folded(*clients: str, round_: int = 1) -> Aggregate:
    return Aggregate(tuple((UpdateId(client, round_), 0) for client in clients))


def play(scheduler: SyncScheduler, *events: Event) -> list[Action]:
    """The actions of the last event."""
    actions: list[Action] = []
    for event in events:
        actions = scheduler.step(0.0, event)
    return actions


def test_two_rounds() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b"))) == [Dispatch("a", 1, 0), Dispatch("b", 1, 0)]
    assert play(scheduler, arrived("b", 1)) == []
    assert play(scheduler, arrived("a", 1)) == [folded("a", "b")]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("a", 2, 1), Dispatch("b", 2, 1)]
    assert play(scheduler, arrived("a", 2), arrived("b", 2)) == [folded("a", "b", round_=2)]
    assert play(scheduler, Aggregated(2)) == [Release(1), Finish()]
    assert play(scheduler, ClientUp("a"), Stopping()) == []


def test_a_refused_client_does_not_hold_up_the_round_and_joins_the_next() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), refused("b", 1)) == [folded("a")]
    assert Dispatch("b", 2, 1) in play(scheduler, Aggregated(1))


def test_a_client_that_is_down_is_left_out_until_it_is_up() -> None:
    scheduler = SyncScheduler(3)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), ClientDown("b")) == [folded("a")]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("a", 2, 1)]
    assert play(scheduler, ClientUp("b")) == [Hold("b", "joins round 3")]
    assert play(scheduler, arrived("a", 2)) == [folded("a", round_=2)]
    assert play(scheduler, Aggregated(2)) == [Release(1), Dispatch("a", 3, 2), Dispatch("b", 3, 2)]


def test_an_update_of_a_client_that_was_given_up_counts_while_its_round_is_open() -> None:
    scheduler = SyncScheduler(1)
    play(scheduler, Started(("a", "b")), ClientDown("b"), arrived("b", 1))
    assert play(scheduler, arrived("a", 1)) == [folded("a", "b")]
    assert play(scheduler, arrived("b", 1)) == []


def test_a_round_in_which_nobody_delivered_waits_for_the_policy() -> None:
    scheduler = SyncScheduler(1)
    assert play(scheduler, Started(("a", "b")), refused("a", 1), ClientDown("b")) == []
    assert play(scheduler, Timer()) == []
    assert play(scheduler, ClientUp("b")) == [Dispatch("b", 1, 0)]
    assert play(scheduler, arrived("b", 1)) == [folded("b")]


def test_stopping_leaves_an_open_round_for_the_resumed_run() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), Stopping()) == [Finish()]
    assert play(scheduler, arrived("b", 1)) == []


def test_stopping_waits_for_an_aggregation_under_way() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a",)), arrived("a", 1), Stopping()) == []
    assert play(scheduler, Aggregated(1)) == [Release(0), Finish()]


def test_the_same_events_give_the_same_actions() -> None:
    events = [Started(("a", "b", "c")), arrived("c", 1), ClientDown("a"), arrived("b", 1), Aggregated(1)]
    first, second = SyncScheduler(2), SyncScheduler(2)
    assert [first.step(0.0, e) for e in events] == [second.step(99.0, e) for e in events]


class AnyInterleaving(RuleBasedStateMachine):
    """A runner that lets anything happen that a runner may let happen, and checks what it is told to do."""

    @initialize(clients=st.integers(1, 5), rounds=st.integers(1, 4))
    def start(self, clients: int, rounds: int) -> None:
        self.clients = tuple(f"c{i}" for i in range(clients))
        self.rounds = rounds
        self.scheduler = SyncScheduler(rounds)
        self.up = set(self.clients)
        self.busy: dict[str, int] = {}
        self.delivered: set[UpdateId] = set()
        self.used: set[UpdateId] = set()
        self.version = 0
        self.aggregating = False
        self.finished = False
        self.hear(Started(self.clients))

    def hear(self, event: Event) -> None:
        for action in self.scheduler.step(0.0, event):
            assert not self.finished, "an action after Finish"
            match action:
                case Dispatch():
                    assert action.client in self.up
                    assert action.client not in self.busy
                    assert action.version == self.version
                    assert UpdateId(action.client, action.dispatch) not in self.delivered
                    self.busy[action.client] = action.dispatch
                case Aggregate():
                    assert not self.aggregating
                    assert action.updates
                    ids = [update for update, staleness in action.updates if staleness == 0]
                    assert len(ids) == len(action.updates)
                    assert [i.client for i in ids] == [
                        c for c in self.clients if c in {i.client for i in ids}
                    ]
                    assert self.delivered.issuperset(ids)
                    assert self.used.isdisjoint(ids)
                    self.used.update(ids)
                    self.aggregating = True
                case Release():
                    assert action.version == self.version - 1
                case Finish():
                    self.finished = True
                case _:
                    assert isinstance(action, Hold)

    def ready(self) -> bool:
        return not self.finished

    @precondition(lambda self: self.ready() and self.busy)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(self.busy)))
        update = UpdateId(client, self.busy.pop(client))
        self.delivered.add(update)
        self.hear(arrived(client, update.dispatch))

    @precondition(lambda self: self.ready() and self.busy)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(self.busy)))
        self.hear(refused(client, self.busy.pop(client)))

    @precondition(lambda self: self.ready() and self.up)
    @rule(data=st.data(), late=st.booleans())
    def go_down(self, data: st.DataObject, late: bool) -> None:
        client = data.draw(st.sampled_from(sorted(self.up)))
        self.up.discard(client)
        dispatch = self.busy.pop(client, None)
        self.hear(ClientDown(client))
        if late and dispatch is not None and not self.finished:
            self.delivered.add(UpdateId(client, dispatch))
            self.hear(arrived(client, dispatch))

    @precondition(lambda self: self.ready() and len(self.up) < len(self.clients))
    @rule(data=st.data())
    def come_up(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(sorted(set(self.clients) - self.up)))
        self.up.add(client)
        self.hear(ClientUp(client))

    @precondition(lambda self: self.ready() and self.aggregating)
    @rule()
    def finish_aggregating(self) -> None:
        self.aggregating = False
        self.version += 1
        self.hear(Aggregated(self.version))

    @rule()
    def tick(self) -> None:
        self.hear(Timer())

    @invariant()
    def ends_after_exactly_the_rounds_asked_for(self) -> None:
        if hasattr(self, "rounds"):
            assert self.finished == (self.version == self.rounds)

    def teardown(self) -> None:
        """From wherever the rules led, the run ends once clients are up and deliver."""
        if not hasattr(self, "rounds"):
            return
        for _ in range(20 * self.rounds):
            if self.finished:
                break
            if self.aggregating:
                self.finish_aggregating()
            elif self.busy:
                client = min(self.busy)
                update = UpdateId(client, self.busy.pop(client))
                self.delivered.add(update)
                self.hear(arrived(client, update.dispatch))
            else:
                self.up = set(self.clients)
                for client in self.clients:
                    self.hear(ClientUp(client))
        assert self.finished
        assert self.version == self.rounds


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
