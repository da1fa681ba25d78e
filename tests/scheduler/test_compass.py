"""FedCompass, against its Algorithms 1 and 2 worked out by hand."""

from __future__ import annotations

import pytest

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
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
from appfl_gc.scheduler.compass import CompassScheduler, CompassSettings
from tests.scheduler.playing import Server, arrived, folded, play, refused


def compass(epochs: int = 1000, momentum: float = 0.5, factor: float = 1.5) -> CompassScheduler:
    return CompassScheduler(epochs, CompassSettings(100, 20, momentum, factor))


def sent(client: str, number: int, version: int, steps: int) -> Dispatch:
    return Dispatch(client, number, version, {"local_steps": steps})


def test_first_updates_are_folded_at_once_and_found_groups() -> None:
    server = Server(compass())
    assert server.hear(0.0, Started(("a", "b"))) == [sent("a", 1, 0, 100), sent("b", 1, 0, 100)]
    # b takes 0.5 s for a step: no group is open, so it founds one with the most steps.
    assert server.hear(50.0, arrived("b", 1, steps=100, train=50.0)) == [
        Release(0),
        sent("b", 2, 1, 100),
        WakeAt(50.0 + 1.5 * 50.0),
    ]
    # a takes 1 s. b's group comes now, too soon for 20 steps. b can be back at 125 + 0.5 * 100 = 175.
    assert server.hear(100.0, arrived("a", 1, steps=100, train=100.0)) == [
        Release(1),
        sent("a", 2, 2, 75),
        WakeAt(100.0 + 1.5 * 75.0),
    ]
    assert server.folds == [folded(("b", 1, 0)), folded(("a", 1, 1))]


def test_the_fewest_steps_are_enough_to_join() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("slow", "fast")))
    server.hear(100.0, arrived("fast", 1, steps=100, train=100.0))  # its group comes at 200
    actions = server.hear(175.0, arrived("slow", 1, steps=100, train=125.0))
    assert actions == [Release(1), sent("slow", 2, 2, 20)]


def test_a_new_group_waits_for_the_fastest_member_of_another_whoever_founded_that() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("slow", "fast", "slower")))
    server.hear(200.0, arrived("slow", 1, steps=100, train=200.0))  # its group comes at 400, latest 500
    assert sent("fast", 2, 2, 90) in server.hear(310.0, arrived("fast", 1, steps=100, train=100.0))
    # fast can be back at 500 + 100 * 1: there are 250 s until then, at 4 s for a step.
    actions = server.hear(350.0, arrived("slower", 1, steps=100, train=400.0))
    assert actions == [Release(2), sent("slower", 2, 3, 62), WakeAt(350.0 + 1.5 * 248.0)]


def test_a_client_joins_the_group_that_gives_it_the_most_steps_and_both_are_folded_together() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("slow", "fast")))
    server.hear(100.0, arrived("fast", 1, steps=100, train=100.0))  # its group comes at 200
    actions = server.hear(125.0, arrived("slow", 1, steps=100, train=125.0))
    assert actions == [Release(1), sent("slow", 2, 2, 60)]  # (200 - 125) / 1.25
    assert server.hear(200.0, arrived("slow", 2, steps=60, train=75.0)) == []
    assert server.hear(201.0, arrived("fast", 2, steps=100, train=100.0)) == [
        Release(2),
        # The fastest is first: it founds a group to come at 301, which gives the other 100 / 1.25 steps.
        sent("fast", 3, 3, 100),
        WakeAt(201.0 + 150.0),
        sent("slow", 3, 3, 80),
    ]
    assert server.folds[2:] == [folded(("slow", 2, 0), ("fast", 2, 1))]


def test_the_clock_closes_a_group_without_waiting_for_anybody() -> None:
    """Clients of a group that its timer closes get work then, not when another client returns."""
    server = Server(compass())
    server.hear(0.0, Started(("late", "early")))
    server.hear(100.0, arrived("early", 1, steps=100, train=100.0))  # group: comes at 200, latest 250
    server.hear(125.0, arrived("late", 1, steps=100, train=125.0))
    assert server.hear(200.0, arrived("early", 2, steps=100, train=100.0)) == []
    assert server.hear(249.0, Timer()) == []
    actions = server.hear(250.0, Timer())
    assert server.folds[-1] == folded(("early", 2, 1))
    assert actions == [Release(2), sent("early", 3, 3, 100), WakeAt(250.0 + 150.0)]
    # The late one's update waits, and the client goes on at once, in the group that is to come at 350.
    assert server.hear(260.0, arrived("late", 2, steps=60, train=75.0)) == [sent("late", 3, 3, 72)]
    assert len(server.folds) == 3
    server.hear(350.0, arrived("late", 3, steps=72, train=90.0))
    server.hear(350.0, arrived("early", 3, steps=100, train=100.0))
    assert server.folds[-1] == folded(("late", 2, 1), ("late", 3, 0), ("early", 3, 0))


def test_time_in_a_queue_is_not_taken_for_slowness() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("plain", "queued")))
    # 100 steps in 10 s, after 490 s in a queue.
    actions = server.hear(500.0, arrived("queued", 1, steps=100, train=10.0, queue=490.0))
    assert actions == [Release(0), sent("queued", 2, 1, 100), WakeAt(500.0 + 1.5 * 500.0)]
    # 5 s for a step: it can do 90 until the group comes at 1000, and its pace is not that of the queue.
    actions = server.hear(550.0, arrived("plain", 1, steps=100, train=500.0, queue=50.0))
    assert actions == [Release(1), sent("plain", 2, 2, 80)]  # (1000 - 550 - 50) / 5
    server.hear(1000.0, arrived("queued", 2, steps=100, train=10.0, queue=490.0))
    actions = server.hear(1000.0, arrived("plain", 2, steps=80, train=400.0, queue=50.0))
    assert actions[1:] == [
        sent("queued", 3, 3, 100),
        WakeAt(1000.0 + 1.5 * 500.0),
        sent("plain", 3, 3, 90),  # (1500 - 1000 - 50) / 5
    ]


@pytest.mark.parametrize(("momentum", "step"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_momentum_is_the_weight_of_the_new_measurement(momentum: float, step: float) -> None:
    server = Server(compass(momentum=momentum))
    server.hear(0.0, Started(("a",)))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    actions = server.hear(400.0, arrived("a", 2, steps=100, train=300.0))
    assert actions[-1] == WakeAt(400.0 + 1.5 * 100.0 * step)


def test_overhead_is_averaged_as_well() -> None:
    server = Server(compass(momentum=0.25))
    server.hear(0.0, Started(("a",)))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    parts = {"queue": 100.0, "transfer": 60.0, "load": 40.0}
    actions = server.hear(400.0, arrived("a", 2, steps=100, train=100.0, **parts))
    assert actions[-1] == WakeAt(400.0 + 1.5 * (100.0 + 0.25 * 200.0))


def test_the_fewest_steps_if_even_they_are_too_many() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("snail", "fast")))
    server.hear(1.0, arrived("fast", 1, steps=100, train=1.0))
    # fast can be back at 2.5 + 1: no time for a step of 10 s.
    actions = server.hear(2.4, arrived("snail", 1, steps=100, train=1000.0))
    assert actions == [Release(1), sent("snail", 2, 2, 20), WakeAt(2.4 + 1.5 * 200.0)]


def test_a_group_that_has_all_but_one_who_goes_down_is_complete() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("slow", "fast")))
    server.hear(100.0, arrived("fast", 1, steps=100, train=100.0))
    server.hear(125.0, arrived("slow", 1, steps=100, train=125.0))
    server.hear(200.0, arrived("fast", 2, steps=100, train=100.0))
    assert server.hear(210.0, ClientDown("slow"))[1] == sent("fast", 3, 3, 100)
    assert server.folds[-1] == folded(("fast", 2, 1))


def test_a_refused_member_goes_on_and_its_group_does_not_wait_for_it() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("slow", "fast")))
    server.hear(100.0, arrived("fast", 1, steps=100, train=100.0))
    server.hear(125.0, arrived("slow", 1, steps=100, train=125.0))
    # It may join its own group again: (200 - 150) / 1.25.
    assert server.hear(150.0, refused("slow", 2)) == [sent("slow", 3, 2, 40)]
    server.hear(200.0, arrived("fast", 2, steps=100, train=100.0))
    actions = server.hear(205.0, refused("slow", 3))
    assert server.folds[-1] == folded(("fast", 2, 1))
    assert [action.client for action in actions if isinstance(action, Dispatch)] == ["fast", "slow"]


def test_who_comes_up_while_its_update_waits_for_the_group_waits_too() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("slow", "fast")))
    server.hear(100.0, arrived("fast", 1, steps=100, train=100.0))
    server.hear(125.0, arrived("slow", 1, steps=100, train=125.0))
    server.hear(200.0, arrived("fast", 2, steps=100, train=100.0))
    assert server.hear(210.0, ClientDown("fast")) == []
    assert server.hear(220.0, ClientUp("fast")) == [Hold("fast", "its group is not complete")]
    actions = server.hear(230.0, arrived("slow", 2, steps=60, train=75.0))
    assert server.folds[-1] == folded(("slow", 2, 0), ("fast", 2, 1))
    assert actions[1] == sent("fast", 3, 3, 100)


def test_a_second_late_update_of_a_client_is_folded_with_its_first() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("late", "early")))
    server.hear(100.0, arrived("late", 1, steps=100, train=100.0))
    server.hear(125.0, arrived("early", 1, steps=100, train=125.0))
    server.hear(200.0, arrived("early", 2, steps=60, train=75.0))
    server.hear(250.0, Timer())
    server.hear(290.0, arrived("late", 2, steps=100, train=100.0))
    server.hear(300.0, ClientDown("late"))
    assert len(server.folds) == 3
    server.hear(310.0, arrived("late", 3, steps=85, train=85.0))
    assert server.folds[3:] == [folded(("late", 2, 2), ("late", 3, 0))]


def test_a_group_to_which_nobody_came_takes_along_what_waits() -> None:
    server = Server(compass(factor=1.0))
    server.hear(0.0, Started(("a", "b")))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    server.hear(200.0, Timer())
    assert server.hear(201.0, arrived("a", 2, steps=100, train=101.0))[0] == sent("a", 3, 1, 100)
    assert len(server.folds) == 1
    # Its next group closes without it as well, and takes the update that waits.
    server.hear(302.0, Timer())
    assert server.folds[1:] == [folded(("a", 2, 0))]


def test_what_waits_is_folded_when_nobody_works_any_more() -> None:
    server = Server(compass(factor=1.0))
    server.hear(0.0, Started(("a",)))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    server.hear(200.0, Timer())
    server.hear(201.0, arrived("a", 2, steps=100, train=101.0))
    assert len(server.folds) == 1
    assert server.hear(202.0, ClientDown("a")) == [Release(1)]
    assert server.folds[-1] == folded(("a", 2, 0))


def test_what_comes_when_nobody_works_any_more_is_folded_at_once() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("a",)))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    server.hear(150.0, ClientDown("a"))
    assert server.hear(200.0, arrived("a", 2, steps=100, train=100.0)) == [Release(1)]
    assert server.folds[-1] == folded(("a", 2, 0))


def test_the_timer_of_a_group_that_is_complete_leaves_the_general_buffer_alone() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("a",)))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    server.hear(200.0, arrived("a", 2, steps=100, train=100.0))
    server.hear(350.0, Timer())
    server.hear(351.0, arrived("a", 3, steps=100, train=151.0))
    assert server.hear(352.0, Timer()) == []
    assert len(server.folds) == 2


def test_timers_without_a_group_that_is_due_do_nothing() -> None:
    server = Server(compass())
    assert server.hear(0.0, Started(("a",)))
    assert server.hear(1e9, Timer()) == []
    server.hear(1e9, arrived("a", 1, steps=100, train=1.0))
    assert server.hear(1e9, Timer()) == []


def test_several_groups_that_one_late_timer_closes() -> None:
    server = Server(compass(factor=1.0))
    server.hear(0.0, Started(("a", "b")))
    server.hear(1.0, arrived("a", 1, steps=100, train=1.0))
    server.hear(100.0, arrived("b", 1, steps=100, train=100.0))
    assert server.hear(9999.0, Timer()) == []
    assert server.hear(9999.0, Timer()) == []
    late = server.hear(10000.0, arrived("a", 2, steps=100, train=1.0))
    assert [type(action) for action in late] == [Dispatch, WakeAt]


def test_updates_without_measures_tell_no_pace() -> None:
    server = Server(compass())
    server.hear(0.0, Started(("a",)))
    for number in (1, 2):
        again = server.hear(1.0, arrived("a", number, steps=0, train=0.0))
        assert again == [Release(number - 1), sent("a", number + 1, number, 100)]


@pytest.mark.parametrize("train", [1e-320, 1e300])
def test_a_site_that_tells_nonsense_hurts_nobody_else(train: float) -> None:
    server = Server(compass())
    server.hear(0.0, Started(("odd", "plain")))
    server.hear(1.0, arrived("odd", 1, steps=1, train=train, queue=train))
    actions = server.hear(100.0, arrived("plain", 1, steps=100, train=100.0))
    steps = [action.args["local_steps"] for action in actions if isinstance(action, Dispatch)]
    assert steps == [100]


def test_exactly_as_many_updates_as_asked_for() -> None:
    server = Server(compass(epochs=4))
    server.hear(0.0, Started(("a", "b", "c")))
    for client in ("a", "b"):
        server.hear(100.0, arrived(client, 1, steps=100, train=100.0))
    last: list[Action] = server.hear(100.0, arrived("c", 1, steps=100, train=100.0))
    assert [type(action) for action in last] == [Release, Hold]  # a and b have the last places
    assert sum(len(fold.updates) for fold in server.folds) == 3


def test_the_last_update_is_not_waited_for_in_a_group_and_who_is_too_many_is_cancelled() -> None:
    server = Server(compass(epochs=3))
    server.hear(0.0, Started(("a", "b")))
    server.hear(100.0, arrived("a", 1, steps=100, train=100.0))
    assert server.hear(100.0, ClientDown("b")) == []
    server.hear(101.0, arrived("b", 1, steps=100, train=100.0))  # late, and counts
    assert sum(len(fold.updates) for fold in server.folds) == 2
    assert server.hear(150.0, ClientUp("b")) == [
        Hold("b", "the other clients bring the last updates"),
        WakeAt(100.0 + 3 * 100.0),  # a is overdue then
    ]
    end = server.hear(200.0, arrived("a", 2, steps=100, train=100.0))
    assert end == [Release(2), Finish()]
    assert isinstance(server.folds[-1], Aggregate)


def test_who_was_held_and_went_down_does_not_get_the_place_that_is_free() -> None:
    server = Server(compass(epochs=2))
    assert server.hear(0.0, Started(("a", "b", "c", "d")))[2:] == [
        Hold("c", "the other clients bring the last updates"),
        Hold("d", "the other clients bring the last updates"),
    ]
    server.hear(1.0, ClientDown("c"))
    assert server.hear(2.0, ClientDown("a")) == [sent("d", 1, 0, 100)]


def test_the_run_ends_with_the_last_update_even_if_it_is_a_late_one() -> None:
    server = Server(compass(epochs=4))
    server.hear(0.0, Started(("slow", "fast", "new"), ("new",)))
    server.hear(100.0, arrived("fast", 1, steps=100, train=100.0))
    server.hear(125.0, arrived("slow", 1, steps=100, train=125.0))
    assert [type(action) for action in server.hear(130.0, ClientUp("new"))] == [Hold, WakeAt]
    assert server.hear(150.0, ClientDown("slow")) == [sent("new", 1, 2, 100)]
    server.hear(200.0, arrived("fast", 2, steps=100, train=100.0))
    end = server.hear(201.0, arrived("slow", 2, steps=60, train=75.0))
    assert end == [Release(3), Cancel("new", 1), Finish()]


def test_stopping_folds_nothing() -> None:
    scheduler = compass()
    play(scheduler, Started(("a",)), arrived("a", 1))
    assert play(scheduler, Stopping()) == [Finish()]


def test_cancel_tells_who_is_too_many() -> None:
    server = Server(compass(epochs=1))
    server.hear(0.0, Started(("a", "b")))
    server.hear(1.0, ClientDown("a"))
    assert server.hear(2.0, arrived("a", 1)) == [Release(0), Cancel("b", 1), Finish()]


def test_fewest_above_most() -> None:
    with pytest.raises(UserCodeError, match="min_local_steps is 20, above max_local_steps, which is 10"):
        CompassSettings(10, 20, 0.9, 1.5)
