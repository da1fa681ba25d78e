"""Schedulers by name."""

from __future__ import annotations

import pytest

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.scheduler.registry import make_scheduler
from appfl_gc.scheduler.sync import SyncScheduler


def test_sync() -> None:
    scheduler = make_scheduler("SyncScheduler", 2, {"same_init_model": True, "num_clients": 2}, seed=1)
    assert isinstance(scheduler, SyncScheduler)


@pytest.mark.parametrize("name", ["AsyncScheduler", "CompassScheduler", "QueueScheduler"])
def test_published_ones_that_are_not_built(name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"{name} is not supported yet") as caught:
        make_scheduler(name, 2, {}, seed=1)
    assert "SyncScheduler" in caught.value.hint


def test_models_of_their_own_are_not_ignored() -> None:
    with pytest.raises(NotSupportedError, match="same_init_model"):
        make_scheduler("SyncScheduler", 2, {"same_init_model": False}, seed=1)


def test_unknown_and_no_rounds() -> None:
    with pytest.raises(UserCodeError, match="'Sync'"):
        make_scheduler("Sync", 2, {}, seed=1)
    with pytest.raises(UserCodeError, match="num_global_epochs is 0"):
        make_scheduler("SyncScheduler", 0, {}, seed=1)
