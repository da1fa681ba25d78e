"""Aggregators by the names that configurations use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from appfl_gc.aggregator.admm import ICEADMMAggregator, IIADMMAggregator
from appfl_gc.aggregator.arguments import whole_number
from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.fedasync import FedAsyncAggregator, FedBuffAggregator, FedCompassAggregator
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.fedqueue import FedQueueAggregator
from appfl_gc.aggregator.krum import KrumAggregator
from appfl_gc.aggregator.norm_bounding import NormBoundingAggregator
from appfl_gc.aggregator.order_statistics import CoordinateMedianAggregator, TrimmedMeanAggregator
from appfl_gc.aggregator.server_optimisers import (
    FedAdagradAggregator,
    FedAdamAggregator,
    FedAvgMAggregator,
    FedYogiAggregator,
)
from appfl_gc.config.names import AGGREGATORS
from appfl_gc.protocol.errors import NotSupportedError, UserCodeError

_CLASSES: tuple[type[Aggregator], ...] = (
    FedAvgAggregator,
    FedAvgMAggregator,
    FedAdagradAggregator,
    FedYogiAggregator,
    FedAdamAggregator,
    FedAsyncAggregator,
    FedBuffAggregator,
    FedCompassAggregator,
    FedQueueAggregator,
    IIADMMAggregator,
    ICEADMMAggregator,
    CoordinateMedianAggregator,
    TrimmedMeanAggregator,
    KrumAggregator,
    NormBoundingAggregator,
)
BUILT: Mapping[str, type[Aggregator]] = {cls.__name__: cls for cls in _CLASSES}
"""Aggregators by name. A key of ``aggregator_kwargs`` is an argument of the constructor."""


def make_aggregator(name: str, kwargs: Mapping[str, Any]) -> Aggregator:
    """The aggregator called ``name`` in a configuration.

    Args:
        name: as in ``server_configs.aggregator``.
        kwargs: ``aggregator_kwargs``; keys of other aggregators are left alone here, validation warns of them.

    Raises:
        NotSupportedError: if the aggregator, or a feature switched on in ``kwargs``, is not built yet.
        UserCodeError: if no aggregator has this name, or an argument is missing or wrong.
    """
    hint = f"Built are: {', '.join(BUILT)}; or name your own class with aggregator_path."
    if name not in BUILT:
        if name in AGGREGATORS:
            raise NotSupportedError(f"Aggregator {name} is not supported yet.", hint)
        raise UserCodeError(f"There is no aggregator called {name!r}.", hint)
    if kwargs.get("use_secure_agg"):
        raise NotSupportedError("Secure aggregation (use_secure_agg: True) is not supported yet.")
    parameters = inspect.signature(BUILT[name]).parameters
    given = {key: kwargs[key] for key in parameters if kwargs.get(key) is not None}
    missing = [
        key for key in parameters if key not in given and parameters[key].default is inspect.Parameter.empty
    ]
    if missing:
        raise UserCodeError(
            f"{name} needs {' and '.join(missing)}, which aggregator_kwargs lacks.",
            f"Write, for instance, aggregator_kwargs: {{{missing[0]}: ...}}; it has no default.",
        )
    return BUILT[name](**given)


def updates_per_aggregation(name: str, kwargs: Mapping[str, Any]) -> int:
    """Updates that an asynchronous scheduler waits for before they are folded: FedBuff's K, else 1.

    Args:
        name: as in ``server_configs.aggregator``.
        kwargs: ``aggregator_kwargs``.

    Raises:
        UserCodeError: if K is missing or no whole number from 1.
    """
    if name != FedBuffAggregator.__name__:
        return 1
    if kwargs.get("K") is None:
        raise UserCodeError(
            f"{name} needs K, which aggregator_kwargs lacks.",
            "K is the number of updates in a buffer, such as aggregator_kwargs: {K: 3}.",
        )
    return whole_number("K", kwargs["K"], at_least=1)
