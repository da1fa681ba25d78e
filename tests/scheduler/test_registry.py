"""Schedulers by name, and their keyword arguments."""

from __future__ import annotations

from typing import Any

import pytest

from appfl_gc.config.names import SCHEDULERS
from appfl_gc.config.schema.block import Status, support_of
from appfl_gc.config.schema.scheduler_kwargs import QueueSchedulerKwargs
from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.protocol.schedule import ClientDown, ClientUp, Dispatch, Finish, Started, Stopping, Timer
from appfl_gc.scheduler.base import Counts
from appfl_gc.scheduler.queue import QueueSettings
from appfl_gc.scheduler.registry import NAMES, make_scheduler
from tests.scheduler.playing import arrived, play, refused

COMPASS = {"max_local_steps": 100, "min_local_steps": 20, "speed_momentum": 0.9, "latest_time_factor": 1.5}


@pytest.mark.parametrize(
    ("name", "kwargs", "counts", "waits"),
    [
        ("SyncScheduler", {}, Counts.ROUNDS, True),
        ("AsyncScheduler", {}, Counts.UPDATES, False),
        ("CompassScheduler", COMPASS, Counts.UPDATES, False),
        ("QueueScheduler", {}, Counts.ROUNDS, True),
    ],
)
def test_each_says_what_its_epochs_are(
    name: str, kwargs: dict[str, Any], counts: Counts, waits: bool
) -> None:
    published = {"same_init_model": True, "num_clients": 2, "optimize_memory": True}
    scheduler = make_scheduler(name, 2, {**published, **kwargs}, seed=1)
    assert type(scheduler).__name__ == name
    assert (scheduler.counts, scheduler.waits_for_all) == (counts, waits)
    sent = play(scheduler, Started(("a", "b")))
    assert [action.client for action in sent if isinstance(action, Dispatch)] == ["a", "b"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_happens_after_stopping(name: str) -> None:
    scheduler = make_scheduler(name, 9, COMPASS, seed=1)
    assert play(scheduler, Started(("a", "b")), Stopping()) == [Finish()]
    for event in (arrived("a", 1), refused("b", 1), Timer(), ClientDown("a"), ClientUp("a"), Stopping()):
        assert play(scheduler, event, at=1e9) == []


def test_all_published_ones_are_built() -> None:
    assert set(NAMES) == set(SCHEDULERS)


def test_what_the_sync_scheduler_is_told_reaches_it() -> None:
    def drawn(seed: int) -> list[str]:
        scheduler = make_scheduler("SyncScheduler", 2, {"clients_per_round": 0.5}, seed)
        actions = play(scheduler, Started(tuple("abcdefghijkl")))
        return [action.client for action in actions if isinstance(action, Dispatch)]

    assert len(drawn(1)) == len(drawn(3)) == 6
    assert drawn(1) != drawn(3)


def test_the_aggregators_buffer_reaches_the_asynchronous_scheduler() -> None:
    scheduler = make_scheduler("AsyncScheduler", 9, {}, 1, updates_per_aggregation=2)
    assert isinstance(play(scheduler, Started(("a", "b")), arrived("a", 1))[0], Dispatch)


def test_models_of_their_own_are_not_ignored() -> None:
    for name in NAMES:
        with pytest.raises(NotSupportedError, match="same_init_model"):
            make_scheduler(name, 2, {"same_init_model": False}, seed=1)


def test_simulated_queues_are_not_ignored() -> None:
    with pytest.raises(NotSupportedError, match="simulate_queue") as caught:
        make_scheduler("QueueScheduler", 2, {"simulate_queue": True}, seed=1)
    assert "appfl-gc simulate" in caught.value.hint


def test_unknown() -> None:
    with pytest.raises(UserCodeError, match="'Sync'") as caught:
        make_scheduler("Sync", 2, {}, seed=1)
    assert "SyncScheduler" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "kwargs", "what"),
    [
        ("SyncScheduler", {}, "round"),
        ("AsyncScheduler", {}, "client update"),
        ("CompassScheduler", COMPASS, "client update"),
        ("QueueScheduler", {}, "round"),
    ],
)
def test_nothing_to_do(name: str, kwargs: dict[str, Any], what: str) -> None:
    with pytest.raises(UserCodeError, match=f"num_global_epochs is 0; at least one {what} is needed"):
        make_scheduler(name, 0, kwargs, seed=1)


def test_what_is_required() -> None:
    with pytest.raises(
        UserCodeError,
        match=r"CompassScheduler needs min_local_steps and speed_momentum and latest_time_factor\.",
    ) as caught:
        make_scheduler("CompassScheduler", 2, {"max_local_steps": 5, "speed_momentum": None}, seed=1)
    assert "server_configs.scheduler_kwargs" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_local_steps": 0}, "max_local_steps is 0; expected a whole number of at least 1"),
        ({"min_local_steps": 1.5}, "min_local_steps is 1.5; expected a whole number of at least 1"),
        ({"min_local_steps": True}, "min_local_steps is True; expected a whole number"),
        (
            {"speed_momentum": 1.1},
            "speed_momentum is 1.1; expected a number of at least 0 and at most 1",
        ),
        ({"speed_momentum": "fast"}, "speed_momentum is 'fast'; expected a number"),
        ({"latest_time_factor": 0.9}, "latest_time_factor is 0.9; expected a number of at least 1"),
        ({"latest_time_factor": float("inf")}, "latest_time_factor is inf; expected a number"),
        ({"latest_time_factor": float("nan")}, "latest_time_factor is nan; expected a number"),
        ({"latest_time_factor": 10**400}, "latest_time_factor is 1000.*; expected a number"),
        ({"min_local_steps": 101}, "min_local_steps is 101, above max_local_steps, which is 100"),
    ],
)
def test_wrong_numbers_are_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserCodeError, match=told):
        make_scheduler("CompassScheduler", 2, {**COMPASS, **change}, seed=1)


def test_the_same_number_of_steps_for_all() -> None:
    make_scheduler("CompassScheduler", 2, {**COMPASS, "min_local_steps": 100}, seed=1)


@pytest.mark.parametrize(
    "change", [{"t_sync": 0}, {"lr_base": 0.0}, {"warm_up_steps": 0}, {"beta_queue": 2}, {"theta": -1}]
)
def test_wrong_numbers_of_the_queue_scheduler(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UserCodeError, match=f"{name} is"):
        make_scheduler("QueueScheduler", 2, change, seed=1)


def test_the_schema_and_the_scheduler_agree_on_keys_and_defaults() -> None:
    fields = QueueSchedulerKwargs.model_fields
    for name, default in vars(QueueSettings()).items():
        assert support_of(fields[name]).status is Status.WORKS
        assert fields[name].default == default
