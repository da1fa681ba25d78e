"""Schedulers by the names that published configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.scheduler.asynchronous import AsyncScheduler
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.compass import CompassScheduler, CompassSettings
from appfl_gc.scheduler.queue import QueueScheduler, QueueSettings
from appfl_gc.scheduler.settings import read
from appfl_gc.scheduler.sync import SyncScheduler

NAMES = ("SyncScheduler", "AsyncScheduler", "CompassScheduler", "QueueScheduler")


def make_scheduler(
    name: str,
    num_global_epochs: int,
    kwargs: Mapping[str, Any],
    seed: int,
    updates_per_aggregation: int = 1,
) -> Scheduler:
    """The scheduler called ``name`` in a configuration.

    Args:
        name: as in ``server_configs.scheduler``.
        num_global_epochs: rounds or client updates, see ``Scheduler.counts``.
        kwargs: ``scheduler_kwargs``; keys of other schedulers are left alone here, validation warns of them.
        seed: what a scheduler that draws lots derives its randomness from.
        updates_per_aggregation: how many updates the aggregator wants at once; only ``AsyncScheduler`` can be asked
            for more than one.

    Raises:
        NotSupportedError: if ``kwargs`` ask for what is not built.
        UserCodeError: if no scheduler has this name, or an argument is wrong.
    """
    if not kwargs.get("same_init_model", True):
        raise NotSupportedError(
            "same_init_model: False (clients start from models of their own) is not supported yet."
        )
    if kwargs.get("simulate_queue", False):
        raise NotSupportedError(
            "simulate_queue: True is not supported: in a run the queues are real.",
            "`appfl-gc simulate` plays queues on a virtual clock.",
        )
    match name:
        case "SyncScheduler":
            return SyncScheduler(num_global_epochs, kwargs.get("clients_per_round"), seed)
        case "AsyncScheduler":
            return AsyncScheduler(num_global_epochs, updates_per_aggregation)
        case "CompassScheduler":
            return CompassScheduler(num_global_epochs, read(CompassSettings, kwargs, name))
        case "QueueScheduler":
            return QueueScheduler(num_global_epochs, read(QueueSettings, kwargs, name))
        case _:
            raise UserCodeError(
                f"There is no scheduler called {name!r}.",
                f"Built are: {', '.join(NAMES)}; or name your own class with scheduler_path.",
            )
