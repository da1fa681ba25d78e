"""The asynchronous scheduler: no barrier, exactly as many updates as asked for."""

from __future__ import annotations

import pytest

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import (
    Aggregate,
    Aggregated,
    Cancel,
    ClientDown,
    ClientUp,
    Dispatch,
    Finish,
    Hold,
    Release,
    Started,
    Stopping,
    Timer,
    WakeAt,
)
from appfl_gc.scheduler.asynchronous import AsyncScheduler
from appfl_gc.scheduler.base import Counts
from tests.scheduler.playing import arrived, folded, play, refused

WAIT = "the other clients bring the last updates"


def test_epochs_are_updates() -> None:
    assert AsyncScheduler.counts is Counts.UPDATES
    assert not AsyncScheduler.waits_for_all


def test_each_update_is_folded_as_it_comes_and_its_client_goes_on_with_the_new_version() -> None:
    scheduler = AsyncScheduler(10)
    assert play(scheduler, Started(("slow", "fast"))) == [Dispatch("slow", 1, 0), Dispatch("fast", 1, 0)]
    assert play(scheduler, arrived("fast", 1)) == [folded(("fast", 1, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("fast", 2, 1)]
    assert play(scheduler, arrived("fast", 2)) == [folded(("fast", 2, 0))]
    assert play(scheduler, Aggregated(2)) == [Release(1), Dispatch("fast", 3, 2)]
    assert play(scheduler, arrived("slow", 1)) == [folded(("slow", 1, 2))]
    assert play(scheduler, Aggregated(3)) == [Release(2), Dispatch("slow", 2, 3)]
    assert play(scheduler, arrived("fast", 3)) == [folded(("fast", 3, 1))]


def test_a_buffer_is_folded_when_it_is_full_and_nobody_waits_for_it() -> None:
    scheduler = AsyncScheduler(10, updates_per_aggregation=3)
    play(scheduler, Started(("a", "b")))
    assert play(scheduler, arrived("b", 1)) == [Dispatch("b", 2, 0)]
    assert play(scheduler, arrived("b", 2)) == [Dispatch("b", 3, 0)]
    assert play(scheduler, arrived("a", 1)) == [folded(("a", 1, 0), ("b", 1, 0), ("b", 2, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("a", 2, 1)]
    play(scheduler, arrived("a", 2), arrived("a", 3))
    assert play(scheduler, arrived("b", 3)) == [folded(("a", 2, 0), ("a", 3, 0), ("b", 3, 1))]


def test_no_client_trains_for_nothing_at_the_end() -> None:
    scheduler = AsyncScheduler(3)
    play(scheduler, Started(("a", "b")))
    assert play(scheduler, arrived("a", 1), Aggregated(1)) == [Release(0), Dispatch("a", 2, 1)]
    assert play(scheduler, arrived("a", 2), Aggregated(2)) == [
        Release(1),
        Hold("a", WAIT),
        WakeAt(30.0),  # b is overdue then: a took 10 s
    ]
    assert play(scheduler, arrived("b", 1)) == [folded(("b", 1, 2))]
    assert play(scheduler, Aggregated(3)) == [Release(2), Finish()]
    assert play(scheduler, ClientUp("a")) == []


def test_fewer_updates_than_clients() -> None:
    scheduler = AsyncScheduler(2)
    assert play(scheduler, Started(("a", "b", "c"))) == [
        Dispatch("a", 1, 0),
        Dispatch("b", 1, 0),
        Hold("c", WAIT),
    ]


@pytest.mark.parametrize("failure", [ClientDown("a"), refused("a", 1)])
def test_who_was_held_takes_the_place_of_who_failed(failure: ClientDown) -> None:
    scheduler = AsyncScheduler(2)
    play(scheduler, Started(("a", "b", "c")))
    assert Dispatch("c", 1, 0) in play(scheduler, failure)


def test_the_last_buffer_may_be_smaller() -> None:
    scheduler = AsyncScheduler(3, updates_per_aggregation=2)
    play(scheduler, Started(("a",)), arrived("a", 1), arrived("a", 2), Aggregated(1))
    assert play(scheduler, arrived("a", 3)) == [folded(("a", 3, 0))]
    assert play(scheduler, Aggregated(2)) == [Release(1), Finish()]


def test_a_refused_client_that_is_up_tries_again_with_the_current_version() -> None:
    scheduler = AsyncScheduler(10)
    play(scheduler, Started(("a", "b")), arrived("b", 1), Aggregated(1))
    assert play(scheduler, refused("a", 1)) == [Dispatch("a", 2, 1)]
    assert play(scheduler, arrived("a", 1)) == []


def test_clients_begin_when_they_are_up() -> None:
    scheduler = AsyncScheduler(10)
    assert play(scheduler, Started(("a", "b", "c"), ("a", "c"))) == [Dispatch("b", 1, 0)]
    assert play(scheduler, arrived("b", 1), Aggregated(1), ClientUp("c")) == [Dispatch("c", 1, 1)]
    assert play(scheduler, ClientUp("c"), ClientUp("nobody"), Timer()) == []


def test_what_arrived_of_a_client_that_went_down_counts() -> None:
    scheduler = AsyncScheduler(10, updates_per_aggregation=2)
    play(scheduler, Started(("a", "b")), arrived("a", 1), ClientDown("a"))
    assert play(scheduler, arrived("b", 1)) == [folded(("a", 1, 0), ("b", 1, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("b", 2, 1)]


def test_a_late_update_of_a_client_that_was_taken_for_down_counts_unless_superseded() -> None:
    scheduler = AsyncScheduler(10)
    play(scheduler, Started(("a", "b")), ClientDown("a"))
    assert play(scheduler, arrived("a", 1)) == [folded(("a", 1, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0)]
    assert play(scheduler, arrived("a", 1)) == []
    play(scheduler, ClientDown("b"))
    assert play(scheduler, ClientUp("b")) == [Dispatch("b", 2, 1)]
    assert play(scheduler, arrived("b", 1)) == []


def test_who_works_for_nothing_because_a_late_update_came_is_cancelled() -> None:
    scheduler = AsyncScheduler(1)
    play(scheduler, Started(("a", "b")))
    assert play(scheduler, ClientDown("a")) == [Dispatch("b", 1, 0)]
    assert play(scheduler, arrived("a", 1)) == [folded(("a", 1, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0), Cancel("b", 1), Finish()]


def test_stopping_folds_nothing() -> None:
    scheduler = AsyncScheduler(10, updates_per_aggregation=3)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), Stopping()) == [Finish()]


def test_faster_clients_bring_more_updates() -> None:
    """Twice as fast, twice as many: nothing makes the fast one wait."""
    scheduler, staleness = AsyncScheduler(30), []
    play(scheduler, Started(("slow", "fast")))
    number = {"slow": 1, "fast": 1}
    for version, client in enumerate(("fast", "fast", "slow") * 9, start=1):
        (fold,) = play(scheduler, arrived(client, number[client]))
        assert isinstance(fold, Aggregate)
        staleness.append(fold.updates[0][1])
        number[client] += 1
        assert Dispatch(client, number[client], version) in play(scheduler, Aggregated(version))
    assert staleness[3:9] == [1, 0, 2, 1, 0, 2]


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_buffer_holds_at_least_one(size: int) -> None:
    with pytest.raises(UserCodeError, match="updates_per_aggregation is"):
        AsyncScheduler(3, size)
