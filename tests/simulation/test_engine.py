from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
    Arrived,
    Cancel,
    ClientDown,
    ClientUp,
    Dispatch,
    Event,
    Finish,
    Refused,
    Started,
    Timer,
    UpdateId,
    WakeAt,
)
from appfl_gc.scheduler.base import Counts
from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.builtin_profiles import FEDERATIONS, TURN_AROUND, builtin_profiles
from appfl_gc.simulation.draws import Constant, Samples
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.timeline import Fate, Timeline
from tests.simulation.federations import SCHEDULERS, Counting, constant, profiles, scheduler


class Scripted:
    """A scheduler that answers as a test says, and remembers what it heard and when."""

    counts = Counts.ROUNDS

    def __init__(self, answer: Callable[[Event], list[Action]], *, waits_for_all: bool = False) -> None:
        self._answer = answer
        self.waits_for_all = waits_for_all
        self.heard: list[tuple[float, Event]] = []

    def step(self, now: float, event: Event) -> list[Action]:
        self.heard.append((now, event))
        return self._answer(event)


def test_a_round_lasts_as_long_as_its_slowest_client() -> None:
    timeline = Timeline()
    summary = simulate(
        scheduler("sync", 3), builtin_profiles("four-supercomputers"), Counting(100), record=timeline.add
    )
    slowest = max(TURN_AROUND.values())
    assert [fold.at for fold in timeline.folds] == pytest.approx([slowest, 2 * slowest, 3 * slowest])
    assert summary.seconds == pytest.approx(3 * slowest)
    assert (summary.updates, summary.versions, summary.mean_staleness) == (12, 3, 0)
    # The share of site time that the published log's rounds leave idle.
    assert (
        summary.idle_share
        == pytest.approx(1 - sum(TURN_AROUND.values()) / (4 * slowest))
        == pytest.approx(0.342, abs=1e-3)
    )


def test_asynchrony_brings_no_more_updates_than_the_clients_have_time_for() -> None:
    until = 3440.0
    summary = simulate(
        scheduler("async", 10_000), builtin_profiles("four-supercomputers"), Counting(100), until=until
    )
    assert not summary.finished and summary.seconds == until
    assert summary.updates == sum(math.floor(until / seconds) for seconds in TURN_AROUND.values())
    assert summary.idle_share == pytest.approx(0, abs=1e-9)
    assert sum(34.5 / seconds for seconds in TURN_AROUND.values()) / 4 == pytest.approx(1.71, abs=0.01)


def test_a_dispatch_is_queue_then_overhead_then_steps_then_transfer() -> None:
    profile = ClientProfile(
        "a", Constant(0.5), Samples((7.0, 9.0)), Constant(2.0), Constant(1.0), sample_size=4
    )
    timeline = Timeline()
    simulate(scheduler("sync", 2), [profile], Counting(10), record=timeline.add)
    first, second = timeline.work
    assert (first.queue, first.overhead, first.train, first.transfer) == (7, 2, 5, 1)
    assert (first.begin, first.end, second.begin, second.end) == (0, 15, 15, 32)


def test_the_scheduler_hears_what_a_run_would_tell_it() -> None:
    heard: list[Event] = []

    def answer(event: Event) -> list[Action]:
        heard.append(event)
        match event:
            case Started():
                return [Dispatch("a", 4, 0, {"local_steps": 6})]
            case Arrived():
                return [Aggregate(((event.meta.update, 0),))]
            case _:
                return [Finish()]

    profile = ClientProfile("a", Constant(0.5), Constant(7.0), Constant(2.0), Constant(1.0))
    simulate(Scripted(answer), [profile], Counting(10))
    meta = next(event.meta for event in heard if isinstance(event, Arrived))
    assert (meta.update, meta.version, meta.steps, meta.sample_size) == (UpdateId("a", 4), 0, 6, 10)
    timing = meta.timing
    assert (timing.queue, timing.compute, timing.train, timing.transfer) == (7, 5, 3, 1)
    assert timing.turn_around == 13


@pytest.mark.parametrize("kind", SCHEDULERS)
@settings(max_examples=15, deadline=None)
@given(clients=profiles(), seed=st.integers(0, 1000))
def test_every_scheduler_finishes_and_the_books_add_up(
    kind: str, clients: tuple[ClientProfile, ...], seed: int
) -> None:
    runs = []
    for _ in range(2):
        timeline, learner = Timeline(), Counting()
        summary = simulate(scheduler(kind, 12), clients, learner, seed=seed, record=timeline.add)
        runs.append((timeline.work, timeline.folds, summary.seconds, summary.events))
        assert summary.finished
        updates = [meta.update for meta in learner.folded]
        assert len(updates) == len(set(updates)) == summary.folded
        arrived = {(row.client, row.dispatch) for row in timeline.work if row.fate is Fate.ARRIVED}
        assert {(update.client, update.dispatch) for update in updates} <= arrived
        assert len(learner.trained) == len(arrived)
        for client, totals in summary.clients.items():
            spent = totals.queue + totals.overhead + totals.train + totals.transfer + totals.wasted
            assert spent + totals.down + totals.idle == pytest.approx(summary.seconds)
            rows = sorted((row.begin, row.end) for row in timeline.work if row.client == client)
            assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(rows))
        versions = [fold.version for fold in timeline.folds]
        assert versions == list(range(1, len(versions) + 1))
        assert len(set(learner.forgotten)) == len(learner.forgotten)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_versions_that_are_kept_are_those_that_are_trained(kind: str) -> None:
    learner = Counting()
    summary = simulate(scheduler(kind, 60), builtin_profiles("exponential", 5), learner)
    assert summary.versions - len(learner.forgotten) <= 5


def test_what_is_lost_is_found_lost_when_it_would_have_come_and_is_never_trained() -> None:
    timeline, learner = Timeline(), Counting()
    clients = [constant("a", 1.0, loss=0.5)]
    summary = simulate(scheduler("sync", 20), clients, learner, seed=3, record=timeline.add)
    lost = [row for row in timeline.work if row.fate is Fate.LOST]
    assert 5 < len(lost) < 60
    assert all(row.end - row.begin == 10 for row in lost)
    assert summary.clients["a"].wasted == 10 * len(lost)
    assert {(work.client, work.dispatch) for work in learner.trained}.isdisjoint(
        (row.client, row.dispatch) for row in lost
    )


def test_a_client_that_goes_down_loses_its_work_and_comes_back() -> None:
    timeline = Timeline()
    engine = Scripted(
        lambda event: (
            [Dispatch("a", 1, 0)]
            if isinstance(event, Started)
            else []
            if not isinstance(event, ClientUp)
            else [Finish()]
        )
    )
    clients = [constant("a", 1.0, availability=Availability(((4.0, 9.0),)))]
    summary = simulate(engine, clients, Counting(), record=timeline.add)
    assert [(at, type(event)) for at, event in engine.heard] == [
        (0, Started), (4, ClientDown), (4, Refused), (9, ClientUp),
    ]  # fmt: skip
    (row,) = timeline.work
    assert (row.fate, row.end, row.train) == (Fate.DOWN, 4, 4)
    assert (summary.clients["a"].wasted, summary.clients["a"].down, summary.clients["a"].idle) == (4, 5, 0)


def test_who_waits_for_all_begins_when_all_have_been_up() -> None:
    late = constant("late", 1.0, availability=Availability(((0.0, 50.0),)))
    early = constant("early", 1.0, availability=Availability(((45.0, 60.0),)))
    patient = Scripted(lambda event: [Finish()] if isinstance(event, ClientUp) else [], waits_for_all=True)
    simulate(patient, [early, late], Counting())
    assert patient.heard == [
        (50, Started(("early", "late"))), (50, ClientDown("early")), (60, ClientUp("early")),
    ]  # fmt: skip
    other = Scripted(lambda event: [Finish()] if isinstance(event, ClientUp) else [])
    simulate(other, [early, late], Counting())
    assert other.heard == [
        (0, Started(("early", "late"), ("late",))),
        (45, ClientDown("early")),
        (50, ClientUp("late")),
    ]


def test_timers_fire_at_their_time_and_once_each() -> None:
    waiting = [12.5, 3.0, -1.0]

    def answer(event: Event) -> list[Action]:
        if isinstance(event, Started):
            return [WakeAt(at) for at in waiting]
        return [Finish()] if len(timers.heard) == 1 + len(waiting) else []

    timers = Scripted(answer)
    simulate(timers, [constant("a", 1.0)], Counting())
    assert [at for at, event in timers.heard if isinstance(event, Timer)] == [0, 3, 12.5]


def test_cancelled_work_never_arrives_and_its_client_is_free() -> None:
    def answer(event: Event) -> list[Action]:
        match event:
            case Started():
                return [Dispatch("a", 1, 0), WakeAt(2.0)]
            case Timer():
                return [Cancel("a", 99), Cancel("a", 1), Dispatch("a", 2, 0)]
            case _:
                return [Finish()]

    timeline = Timeline()
    simulate(Scripted(answer), [constant("a", 1.0)], Counting(), record=timeline.add)
    assert [(row.dispatch, row.fate, row.end) for row in timeline.work] == [
        (1, Fate.CANCELLED, 2), (2, Fate.ARRIVED, 12),
    ]  # fmt: skip


def test_what_is_out_at_the_end_is_unfinished() -> None:
    timeline = Timeline()
    summary = simulate(scheduler("sync", 9), [constant("a", 1.0)], Counting(), until=25, record=timeline.add)
    assert [(row.fate, row.end) for row in timeline.work] == [
        (Fate.ARRIVED, 10), (Fate.ARRIVED, 20), (Fate.UNFINISHED, 25),
    ]  # fmt: skip
    assert (summary.seconds, summary.finished, summary.clients["a"].wasted) == (25, False, 5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda event: [], "left nothing to wait for"),
        (lambda event: [Dispatch("b", 1, 0)], "'b', which is no client"),
        (lambda event: [Dispatch("a", 1, 0), Dispatch("a", 2, 0)], "'a', which is busy"),
        (lambda event: [Aggregate(((UpdateId("a", 1), 0),))], "dispatch 1 of a: not arrived"),
        (lambda event: [Aggregate(())], "folds no update"),
    ],
)
def test_a_scheduler_that_does_what_it_must_not(answer: Callable[[Event], list[Action]], words: str) -> None:
    with pytest.raises(UserCodeError, match=words):
        simulate(Scripted(answer), [constant("a", 1.0)], Counting())


def test_clients_that_are_never_up_long_enough_do_not_keep_it_going_for_ever() -> None:
    hasty = constant("a", 1.0, availability=Availability(((5.0, 10.0),), 10.0))
    with pytest.raises(UserCodeError, match="No update has arrived for long"):
        simulate(scheduler("async", 3), [hasty], Counting())


def test_a_federation_needs_clients_of_different_names_that_come_up() -> None:
    never = constant("a", 1.0, availability=Availability(((0.0, math.inf),)))
    for clients, words in (
        ([], "at least one"),
        ([constant("a", 1.0)] * 2, "called 'a'"),
        ([never], "never comes up"),
    ):
        with pytest.raises(UserCodeError, match=words):
            simulate(scheduler("sync", 1), clients, Counting())


@pytest.mark.parametrize("name", FEDERATIONS)
def test_built_in_federations(name: str) -> None:
    clients = builtin_profiles(name, 6, seed=1)
    assert len({profile.client for profile in clients}) == 6
    assert clients == builtin_profiles(name, 6, seed=1)
    assert simulate(scheduler("sync", 2), clients, Counting()).finished
    speeds = {profile.timing(1, 1, 100).train for profile in clients}
    assert len(speeds) == {"homogeneous": 1, "four-supercomputers": 4}.get(name, 6)
