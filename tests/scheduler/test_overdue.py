"""The end of a run does not wait without limit for one client."""

from __future__ import annotations

import pytest

from appfl_gc.protocol.schedule import Cancel, Dispatch, Finish, Hold, Release, Started, Timer, WakeAt
from appfl_gc.scheduler.asynchronous import AsyncScheduler
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.compass import CompassScheduler, CompassSettings
from tests.scheduler.playing import Server, arrived


def schedulers(epochs: int) -> list[Scheduler]:
    return [AsyncScheduler(epochs), CompassScheduler(epochs, CompassSettings(10, 10, 0.5, 1.5))]


@pytest.mark.parametrize("scheduler", schedulers(2))
def test_a_place_is_free_again_when_its_holder_takes_three_times_as_long_as_the_others(
    scheduler: Scheduler,
) -> None:
    server = Server(scheduler)
    server.hear(0.0, Started(("fast", "stuck")))
    actions = server.hear(10.0, arrived("fast", 1, train=10.0))
    assert [type(action) for action in actions] == [Release, Hold, WakeAt]
    assert actions[-1] == WakeAt(30.0)
    assert server.hear(29.0, Timer()) == []
    sent = [action.client for action in server.hear(30.0, Timer()) if isinstance(action, Dispatch)]
    assert sent == ["fast"]
    end = server.hear(40.0, arrived("fast", 2, train=10.0))
    assert end == [Release(1), Cancel("stuck", 1), Finish()]
    assert sum(len(fold.updates) for fold in server.folds) == 2


def test_what_an_overdue_client_brings_counts_while_there_is_room() -> None:
    server = Server(AsyncScheduler(2))
    server.hear(0.0, Started(("fast", "stuck")))
    server.hear(10.0, arrived("fast", 1, train=10.0))
    server.hear(30.0, Timer())
    assert server.hear(31.0, arrived("stuck", 1, train=31.0)) == [Release(1), Cancel("fast", 2), Finish()]


def test_a_client_is_judged_by_its_own_times() -> None:
    server = Server(AsyncScheduler(4))
    server.hear(0.0, Started(("fast", "slow")))
    server.hear(10.0, arrived("fast", 1, train=10.0))
    server.hear(100.0, arrived("slow", 1, train=100.0))
    assert server.hear(101.0, arrived("fast", 2, train=10.0))[-1] == WakeAt(100.0 + 3 * 100.0)


def test_nobody_is_overdue_while_nothing_is_measured() -> None:
    server = Server(AsyncScheduler(1))
    assert [type(action) for action in server.hear(0.0, Started(("a", "b")))] == [Dispatch, Hold]
    assert server.hear(1e7, Timer()) == []


def test_one_timer_at_a_time() -> None:
    server = Server(AsyncScheduler(3))
    server.hear(0.0, Started(("a", "b", "c")))
    first = server.hear(10.0, arrived("a", 1, train=10.0))
    second = server.hear(11.0, arrived("b", 1, train=11.0))
    assert sum(isinstance(action, WakeAt) for action in [*first, *second]) == 1


@pytest.mark.parametrize("scheduler", schedulers(3))
def test_no_timer_is_absurdly_late_whatever_a_site_tells(scheduler: Scheduler) -> None:
    server = Server(scheduler)
    actions = server.hear(0.0, Started(("odd", "a", "b")))
    actions += server.hear(10.0, arrived("odd", 1, steps=1, train=1e300, queue=1e300))
    actions += server.hear(11.0, arrived("a", 1, steps=1, train=1e300))
    assert all(action.at < 2e8 for action in actions if isinstance(action, WakeAt))
