"""The synchronous scheduler: rounds that end, and clients drawn by lot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import (
    Action,
    Aggregated,
    ClientDown,
    ClientUp,
    Dispatch,
    Finish,
    Hold,
    Refused,
    Release,
    Started,
    Stopping,
    Timer,
    UpdateId,
)
from appfl_gc.scheduler.sync import SyncScheduler
from tests.scheduler.playing import arrived, folded, play, refused


def test_two_rounds() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b"))) == [Dispatch("a", 1, 0), Dispatch("b", 1, 0)]
    assert play(scheduler, arrived("b", 1)) == []
    assert play(scheduler, arrived("a", 1)) == [folded(("a", 1, 0), ("b", 1, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("a", 2, 1), Dispatch("b", 2, 1)]
    assert play(scheduler, arrived("a", 2), arrived("b", 2)) == [folded(("a", 2, 0), ("b", 2, 0))]
    assert play(scheduler, Aggregated(2)) == [Release(1), Finish()]
    assert play(scheduler, ClientUp("a"), Stopping()) == []


def test_a_refused_client_does_not_hold_up_the_round_and_joins_the_next() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), refused("b", 1)) == [folded(("a", 1, 0))]
    assert Dispatch("b", 2, 1) in play(scheduler, Aggregated(1))


def test_a_client_that_is_down_is_left_out_until_it_is_up() -> None:
    scheduler = SyncScheduler(3)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), ClientDown("b")) == [folded(("a", 1, 0))]
    assert play(scheduler, Aggregated(1)) == [Release(0), Dispatch("a", 2, 1)]
    assert play(scheduler, ClientUp("b")) == [Hold("b", "waits for round 3")]
    assert play(scheduler, arrived("a", 2)) == [folded(("a", 2, 0))]
    assert play(scheduler, Aggregated(2)) == [Release(1), Dispatch("a", 3, 2), Dispatch("b", 3, 2)]


def test_an_update_of_a_client_that_was_given_up_counts_while_its_round_is_open() -> None:
    scheduler = SyncScheduler(2)
    play(scheduler, Started(("a", "b")), ClientDown("b"), arrived("b", 1))
    assert play(scheduler, arrived("a", 1)) == [folded(("a", 1, 0), ("b", 1, 0))]
    play(scheduler, Aggregated(1), ClientUp("b"))
    assert play(scheduler, arrived("b", 1)) == []


def test_an_update_of_a_closed_round_is_not_used() -> None:
    scheduler = SyncScheduler(2)
    play(scheduler, Started(("a", "b")), ClientDown("b"), arrived("a", 1), Aggregated(1), arrived("b", 1))
    assert play(scheduler, arrived("a", 2)) == [folded(("a", 2, 0))]


def test_a_round_in_which_nobody_delivered_begins_anew() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b")), refused("a", 1)) == []
    assert play(scheduler, refused("b", 1)) == [Dispatch("a", 2, 0), Dispatch("b", 2, 0)]
    assert play(scheduler, arrived("a", 1), arrived("a", 2), arrived("b", 2)) == [
        folded(("a", 2, 0), ("b", 2, 0))
    ]
    assert Dispatch("a", 3, 1) in play(scheduler, Aggregated(1))


def test_a_round_without_clients_waits_for_one() -> None:
    scheduler = SyncScheduler(1)
    assert play(scheduler, Started(("a", "b")), ClientDown("a"), refused("a", 1), ClientDown("b")) == []
    assert play(scheduler, Timer()) == []
    assert play(scheduler, ClientUp("b")) == [Dispatch("b", 2, 0)]
    assert play(scheduler, arrived("b", 2)) == [folded(("b", 2, 0))]


def test_stopping_leaves_an_open_round_for_the_resumed_run() -> None:
    scheduler = SyncScheduler(2)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), Stopping()) == [Finish()]
    assert play(scheduler, arrived("b", 1)) == []


def sent_to(actions: list[Action]) -> set[str]:
    return {action.client for action in actions if isinstance(action, Dispatch)}


def replaced(client: str, dispatch: int) -> Refused:
    return Refused(UpdateId(client, dispatch), "lost", replace=True)


def test_each_lost_call_is_replaced_by_a_client_that_the_round_has_not_drawn() -> None:
    scheduler = SyncScheduler(2, 2, seed=3)
    drawn = sent_to(play(scheduler, Started(("a", "b", "c", "d"))))
    lost, other = sorted(drawn)
    (first,) = play(scheduler, replaced(lost, 1))
    (second,) = play(scheduler, replaced(sent_to([first]).pop(), 1))
    assert sent_to([first, second]) == {"a", "b", "c", "d"} - drawn
    assert play(scheduler, arrived(other, 1)) == []
    last = sent_to([second]).pop()
    assert play(scheduler, arrived(last, 1)) == [folded(*sorted([(other, 1, 0), (last, 1, 0)]))]
    assert len(sent_to(play(scheduler, Aggregated(1)))) == 2


def test_without_a_spare_client_a_round_goes_on_as_if_none_was_asked_for() -> None:
    scheduler = SyncScheduler(1)
    assert play(scheduler, Started(("a", "b")), arrived("a", 1), replaced("b", 1)) == [folded(("a", 1, 0))]


def test_a_client_that_is_down_replaces_nobody_and_one_that_came_up_does() -> None:
    scheduler = SyncScheduler(1, 1)
    (first,) = sent_to(play(scheduler, Started(("a", "b", "c"))))
    one, two = sorted({"a", "b", "c"} - {first})
    play(scheduler, ClientDown(one), ClientDown(two), ClientUp(two))
    assert play(scheduler, replaced(first, 1)) == [Dispatch(two, 1, 0)]


def test_who_replaces_is_drawn_by_lot() -> None:
    chosen = set()
    for seed in range(20):
        scheduler = SyncScheduler(1, 1, seed)
        (first,) = sent_to(play(scheduler, Started(CLIENTS)))
        again = SyncScheduler(1, 1, seed)
        play(again, Started(CLIENTS))
        (replacement,) = play(scheduler, replaced(first, 1))
        assert play(again, replaced(first, 1)) == [replacement]
        chosen |= sent_to([replacement])
    assert len(chosen) > 5


CLIENTS = tuple(f"c{number}" for number in range(20))


def rounds_of(scheduler: SyncScheduler, rounds: int, *, backwards: bool = False) -> list[list[str]]:
    """Who trains in each round, as all deliver in configuration order or ``backwards``."""
    actions, trained = play(scheduler, Started(CLIENTS)), []
    for version in range(1, rounds + 1):
        sent = [action for action in actions if isinstance(action, Dispatch)]
        trained.append([dispatch.client for dispatch in sent])
        for dispatch in reversed(sent) if backwards else sent:
            play(scheduler, arrived(dispatch.client, dispatch.dispatch))
        actions = play(scheduler, Aggregated(version))
    return trained


@pytest.mark.parametrize(("wanted", "drawn"), [(1, 1), (3, 3), (99, 20), (1.0, 20), (0.07, 2), (0.05, 1)])
def test_as_many_clients_as_asked_for_train_in_each_round(wanted: int | float, drawn: int) -> None:
    for trained in rounds_of(SyncScheduler(5, wanted), 5):
        assert len(set(trained)) == len(trained) == drawn
        assert trained == [client for client in CLIENTS if client in trained]


def test_the_draw_depends_on_seed_and_round_and_not_on_who_is_first() -> None:
    drawn = rounds_of(SyncScheduler(5, 4, seed=1), 5)
    assert drawn == rounds_of(SyncScheduler(5, 4, seed=1), 5, backwards=True)
    assert drawn != rounds_of(SyncScheduler(5, 4, seed=2), 5)
    assert len({tuple(trained) for trained in drawn}) == 5


def test_every_client_is_drawn_equally_often() -> None:
    drawn = rounds_of(SyncScheduler(400, 5), 400)
    often = [sum(client in trained for trained in drawn) for client in CLIENTS]
    assert 70 < min(often) <= max(often) < 130  # 100 of 400 each, standard deviation 8.7


def test_who_is_down_is_not_drawn() -> None:
    scheduler = SyncScheduler(30, 2)
    actions = play(scheduler, Started(("a", "b", "c", "d")))
    actions += play(scheduler, ClientDown("b"))
    for version in range(1, 21):
        sent = [action for action in actions if isinstance(action, Dispatch) and action.client != "b"]
        play(scheduler, *(arrived(dispatch.client, dispatch.dispatch) for dispatch in sent))
        actions = play(scheduler, Aggregated(version))
        drawn = [action.client for action in actions if isinstance(action, Dispatch)]
        assert len(drawn) == 2
        assert "b" not in drawn


def test_who_is_left_out_is_told_so_once() -> None:
    scheduler = SyncScheduler(3, 1)
    told = [action for action in play(scheduler, Started(("a", "b", "c"))) if isinstance(action, Hold)]
    assert len(told) == 2
    (trained,) = {"a", "b", "c"} - {hold.client for hold in told}
    actions = play(scheduler, arrived(trained, 1), Aggregated(1))
    assert {action.client for action in actions if isinstance(action, Hold)} <= {trained}


@given(st.one_of(st.integers(max_value=0), st.floats(min_value=1.0, exclude_min=True), st.just(float("nan"))))
def test_other_numbers_of_clients(wanted: int | float) -> None:
    with pytest.raises(UserCodeError, match="clients_per_round is"):
        SyncScheduler(1, wanted)
