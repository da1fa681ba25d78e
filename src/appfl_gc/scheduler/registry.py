"""Schedulers by the names that published configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.sync import SyncScheduler

BUILT = ("SyncScheduler",)
NOT_BUILT = ("AsyncScheduler", "CompassScheduler", "QueueScheduler")


def make_scheduler(name: str, num_global_epochs: int, kwargs: Mapping[str, Any], seed: int) -> Scheduler:
    """The scheduler called ``name`` in a configuration.

    Args:
        name: as in ``server_configs.scheduler``.
        num_global_epochs: rounds.
        kwargs: ``scheduler_kwargs``; keys of other schedulers are left alone here, validation warns of them.
        seed: what a scheduler that draws lots derives its randomness from; ``SyncScheduler`` draws none.

    Raises:
        NotSupportedError: if the scheduler, or what ``kwargs`` ask for, is not built yet.
        UserCodeError: if no scheduler has this name, or an argument is wrong.
    """
    hint = f"Built are: {', '.join(BUILT)}; or name your own class with scheduler_path."
    if name in NOT_BUILT:
        raise NotSupportedError(f"Scheduler {name} is not supported yet.", hint)
    if name not in BUILT:
        raise UserCodeError(f"There is no scheduler called {name!r}.", hint)
    return SyncScheduler(num_global_epochs, bool(kwargs.get("same_init_model", True)))
