"""Scheduler and aggregator of a configuration, for runs and for simulations."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from torch import nn

from appfl_gc.aggregator import user_class as user_aggregator
from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.registry import make_aggregator, updates_per_aggregation
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.config import Federation
from appfl_gc.protocol.errors import UsageError, UserCodeError
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.scheduler import user_class as user_scheduler
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.registry import make_scheduler
from appfl_gc.site.source_loader import LoadedSource


def updates_per_fold(federation: Federation) -> int:
    """Updates that the aggregator wants at once; raises ``UsageError`` if its settings do not say."""
    server = federation.server_configs
    if server.aggregator_path:
        return 1
    with no_user_code():
        return updates_per_aggregation(server.aggregator, federation.aggregator_kwargs())


def scheduler_of(federation: Federation, own: LoadedSource | None, seed: int) -> Scheduler:
    """A new scheduler.

    Args:
        federation: its configuration.
        own: the user's class, if ``scheduler_path`` names one.
        seed: the configured one.

    Raises:
        UsageError: if a built-in one can't be had with these settings.
        AppflGcError: if the user's own can't be made.
    """
    server, kwargs = federation.server_configs, federation.scheduler_kwargs()
    if own is not None:
        return user_scheduler.adapt(own.target, server.num_global_epochs, kwargs)
    buffered = updates_per_fold(federation)
    with no_user_code():
        lots = derive_seed(seed, 0, "", "scheduler")
        return make_scheduler(server.scheduler, server.num_global_epochs, kwargs, lots, buffered)


def aggregator_of(
    federation: Federation, own: LoadedSource | None, model: nn.Module, logger: logging.Logger
) -> Aggregator | UserClassAggregator:
    """A new aggregator.

    Args:
        federation: its configuration.
        own: the user's class, if ``aggregator_path`` names one.
        model, logger: what such a class may ask for.

    Raises:
        UsageError: if a built-in one can't be had with these settings.
        AppflGcError: if the user's own can't be made.
    """
    kwargs = federation.aggregator_kwargs()
    if own is not None:
        return user_aggregator.adapt(own.target, kwargs, model, logger)
    with no_user_code():
        return make_aggregator(federation.server_configs.aggregator, kwargs)


@contextlib.contextmanager
def no_user_code() -> Iterator[None]:
    """What is wrong inside is the configuration's fault: no code of the user runs."""
    try:
        yield
    except UserCodeError as error:
        raise UsageError(error.message, error.hint) from error
