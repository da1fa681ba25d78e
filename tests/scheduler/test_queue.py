"""FedQueue, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from appfl_gc.protocol.schedule import (
    Action,
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
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.queue import QueueScheduler, QueueSettings
from tests.scheduler.playing import Server, arrived, folded, play, refused


def queueing(rounds: int = 100, **more: Any) -> Server:
    """Rounds of 100 s with a margin of 20 s, at most 120 s; queue times may be 20 s above their estimate."""
    settings: dict[str, Any] = {
        "t_sync": 100.0,
        "lr_base": 0.1,
        "warm_up_steps": 10,
        "safety_buffer": 20.0,
        "admission_tolerance": 0.2,
        "q_init": 0.0,
    }
    return Server(QueueScheduler(rounds, QueueSettings(**{**settings, **more})))


def sent(client: str, number: int, version: int, steps: int, rate: float) -> Dispatch:
    args: dict[str, Any] = {"local_steps": steps, "learning_rate": pytest.approx(rate)}
    return Dispatch(client, number, version, args)


def steps_of(actions: list[Action]) -> dict[str, Any]:
    return {action.client: action.args["local_steps"] for action in actions if isinstance(action, Dispatch)}


def test_epochs_are_rounds() -> None:
    assert QueueScheduler.counts is Counts.ROUNDS
    assert QueueScheduler.waits_for_all


def test_steps_fill_what_the_queue_leaves_and_the_learning_rate_evens_them_out() -> None:
    server = queueing()
    assert server.hear(0.0, Started(("a", "b"))) == [
        sent("a", 1, 0, 10, 0.1),
        sent("b", 1, 0, 10, 0.1),
        WakeAt(120.0),
    ]
    assert server.hear(20.0, arrived("a", 1, steps=10, train=10.0, queue=10.0)) == []
    # Half of the new queue times, 10 s and 18 + 2 s, is 5 s and 10 s; steps take 1 s and 0.5 s.
    assert server.hear(25.0, arrived("b", 1, steps=10, train=5.0, queue=18.0, transfer=2.0)) == [
        Release(0),
        sent("a", 2, 1, 75, 0.1),  # 100 - 5 - 20
        sent("b", 2, 1, 140, 0.1 * 75 / 140),  # (100 - 10 - 20) / 0.5
        WakeAt(25.0 + 120.0),
    ]
    server.hear(100.0, arrived("a", 2, steps=75, train=150.0, queue=15.0))
    actions = server.hear(101.0, arrived("b", 2, steps=140, train=70.0, queue=10.0))
    # a's step is (1 + 2) / 2 s now and its queue (5 + 15) / 2: floor(70 / 1.5).
    assert steps_of(actions) == {"a": 46, "b": 140}
    assert server.folds == [folded(("a", 1, 0), ("b", 1, 0)), folded(("a", 2, 0), ("b", 2, 0))]


@pytest.mark.parametrize(
    ("more", "steps"),
    [
        ({}, 72),  # queue (2 + 14) / 2
        ({"beta_queue": 1.0}, 66),  # 14
        ({"beta_queue": 0.0}, 78),  # 2
        ({"alpha_queue": 1.0}, 66),
        ({"alpha_queue": 1.0, "beta_queue": 0.0}, 78),
        ({"theta": 50.0}, 42),
        ({"safety_buffer": 50.0}, 42),
        ({"safety_buffer": 50.0, "theta": 0.0}, 92),
        ({"t_sync": 50.0, "warm_up_steps": 5}, 22),
        ({"t_sync": 25.0}, 10),  # half a second is left, and the warm-up is the least
        ({"t_sync": 25.0, "warm_up_steps": 1}, 1),
    ],
)
def test_the_budget(more: dict[str, Any], steps: int) -> None:
    server = queueing(**{"q_init": 2.0, **more})
    server.hear(0.0, Started(("a",)))
    actions = server.hear(24.0, arrived("a", 1, steps=10, train=10.0, queue=14.0))
    assert steps_of(actions) == {"a": steps}


@pytest.mark.parametrize(("weight", "steps"), [(0.0, 80), (0.25, 64), (1.0, 40)])
def test_alpha_compute_is_the_weight_of_the_new_measurement(weight: float, steps: int) -> None:
    server = queueing(alpha_compute=weight)
    server.hear(0.0, Started(("a",)))
    server.hear(10.0, arrived("a", 1, steps=10, train=10.0))
    actions = server.hear(20.0, arrived("a", 2, steps=10, train=20.0))
    assert steps_of(actions) == {"a": steps}


def test_an_update_whose_queue_was_unexpected_waits_for_the_next_round() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(10.0, arrived("a", 1, queue=20.0))  # expected 0 s, allowed 20 s
    server.hear(31.0, arrived("b", 1, queue=20.1))
    assert server.folds == [folded(("a", 1, 0))]
    server.hear(50.0, arrived("a", 2, queue=10.0))
    server.hear(51.0, arrived("b", 2, queue=30.0))  # 10.05 s expected by now
    assert server.folds[1:] == [folded(("a", 2, 0), ("b", 1, 1), ("b", 2, 0))]


def test_the_wider_admission_admits_more() -> None:
    server = queueing(alpha_admission=0.5)
    server.hear(0.0, Started(("a", "b")))
    server.hear(10.0, arrived("a", 1, queue=20.0))
    server.hear(60.0, arrived("b", 1, queue=50.0))
    assert server.folds == [folded(("a", 1, 0), ("b", 1, 0))]


def test_if_no_queue_time_was_as_expected_the_updates_are_folded_all_the_same() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(50.0, arrived("a", 1, queue=40.0))
    server.hear(60.0, arrived("b", 1, queue=50.0))
    assert server.folds == [folded(("a", 1, 0), ("b", 1, 0))]


def test_the_cut_off_ends_a_round_by_the_clock_and_the_straggler_counts_for_the_next() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(20.0, arrived("a", 1, steps=10, train=10.0))
    assert server.hear(119.0, Timer()) == []
    assert server.hear(120.0, Timer()) == [Release(0), sent("a", 2, 1, 80, 0.1 * 10 / 80), WakeAt(240.0)]
    assert server.folds == [folded(("a", 1, 0))]
    # b has 10 steps under way, the fewest; what it brings is folded with the round that is open then.
    assert server.hear(130.0, arrived("b", 1, steps=10, train=10.0, queue=100.0)) == []
    actions = server.hear(210.0, arrived("a", 2, steps=80, train=80.0))
    assert server.folds[1:] == [folded(("a", 2, 0), ("b", 1, 1))]
    assert steps_of(actions) == {"a": 80, "b": 30}  # 100 - 50 - 20


def test_no_round_waits_for_the_straggler_of_an_earlier_one() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(20.0, arrived("a", 1))
    server.hear(120.0, Timer())
    server.hear(130.0, arrived("a", 2))
    assert server.folds[1:] == [folded(("a", 2, 0))]


def test_a_round_without_updates_at_the_cut_off_ends_with_the_first_that_comes() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    assert server.hear(120.0, Timer()) == []
    actions = server.hear(500.0, arrived("b", 1, queue=490.0))
    assert server.folds == [folded(("b", 1, 0))]
    assert steps_of(actions) == {"b": 10}


def test_stragglers_alone_end_a_round_too() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(10.0, arrived("a", 1))
    server.hear(120.0, Timer())
    server.hear(130.0, ClientDown("a"))
    server.hear(200.0, arrived("b", 1))
    assert server.folds[1:] == [folded(("b", 1, 1))]


def test_a_round_ends_early_when_all_have_answered() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b", "c")))
    server.hear(1.0, arrived("a", 1))
    server.hear(2.0, refused("b", 1))
    actions = server.hear(3.0, ClientDown("c"))
    assert server.folds == [folded(("a", 1, 0))]
    assert set(steps_of(actions)) == {"a", "b"}


def test_who_comes_up_waits_for_the_next_round() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(1.0, ClientDown("b"))
    assert server.hear(2.0, ClientUp("b")) == [Hold("b", "waits for round 2")]
    assert set(steps_of(server.hear(3.0, arrived("a", 1)))) == {"a", "b"}


def test_a_round_in_which_nobody_delivered_begins_anew_with_new_numbers_and_a_new_cut_off() -> None:
    server = queueing()
    server.hear(0.0, Started(("a", "b")))
    server.hear(1.0, ClientDown("b"))
    assert server.hear(50.0, refused("a", 1)) == [sent("a", 2, 0, 10, 0.1), WakeAt(170.0)]
    assert server.hear(120.0, Timer()) == []
    server.hear(130.0, arrived("a", 2))
    assert server.folds == [folded(("a", 2, 0))]


def test_the_last_round_folds_all_that_came_and_cancels_the_rest() -> None:
    server = queueing(rounds=1)
    server.hear(0.0, Started(("a", "b", "c")))
    server.hear(50.0, arrived("a", 1, queue=0.0))
    server.hear(60.0, arrived("b", 1, queue=50.0))  # not admitted, but there is no next round
    assert server.hear(120.0, Timer()) == [Release(0), Cancel("c", 1), Finish()]
    assert server.folds == [folded(("a", 1, 0), ("b", 1, 0))]


def test_no_site_time_is_compared_with_the_servers_clock_and_none_is_needed_to_begin() -> None:
    """The scheduler's only sources are the measured durations; an update that tells none is fine."""
    server = queueing()
    server.hear(0.0, Started(("a",)))
    actions = server.hear(1.0, arrived("a", 1, steps=0, train=0.0))
    assert steps_of(actions) == {"a": 10}


@pytest.mark.parametrize("seconds", [1e-320, 1e300])
def test_a_site_that_tells_nonsense_hurts_only_itself(seconds: float) -> None:
    server = queueing()
    server.hear(0.0, Started(("odd", "plain")))
    server.hear(1.0, arrived("odd", 1, steps=10, train=seconds, queue=seconds))
    actions = server.hear(11.0, arrived("plain", 1, steps=10, train=10.0))
    assert steps_of(actions)["plain"] == 80


def test_stopping_folds_nothing() -> None:
    server = queueing()
    assert play(server.scheduler, Started(("a", "b")), arrived("a", 1), Stopping()) == [Finish()]
    assert play(server.scheduler, Aggregated(1)) == []


def test_published_defaults() -> None:
    settings = QueueSettings()
    assert (settings.t_sync, settings.lr_base, settings.warm_up_steps) == (3600.0, 0.01, 20)
    assert (settings.alpha_queue, settings.alpha_compute, settings.alpha_admission) == (0.5, 0.5, 0.2)
    assert (settings.queue_weight, settings.margin) == (0.5, 60.0)
    assert (settings.admission_tolerance, settings.q_init) == (0.15, 2.0)
