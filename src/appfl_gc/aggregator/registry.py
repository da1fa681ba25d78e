"""Aggregators by the names that published configurations use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.protocol.errors import NotSupportedError, UserCodeError

BUILT = ("FedAvgAggregator",)
NOT_BUILT = (
    "FedAvgMAggregator",
    "FedAdamAggregator",
    "FedAdagradAggregator",
    "FedYogiAggregator",
    "FedAsyncAggregator",
    "FedBuffAggregator",
    "FedCompassAggregator",
    "FedQueueAggregator",
    "IIADMMAggregator",
    "ICEADMMAggregator",
    "FedSBAggregator",
    "DIMATAggregator",
    "VFLAggregator",
)


def make_aggregator(name: str, kwargs: Mapping[str, Any]) -> Aggregator:
    """The aggregator called ``name`` in a configuration.

    Args:
        name: as in ``server_configs.aggregator``.
        kwargs: ``aggregator_kwargs``; keys of other aggregators are left alone here, validation warns of them.

    Raises:
        NotSupportedError: if the aggregator, or a feature switched on in ``kwargs``, is not built yet.
        UserCodeError: if no aggregator has this name, or an argument is wrong.
    """
    hint = f"Built are: {', '.join(BUILT)}; or name your own class with aggregator_path."
    if name in NOT_BUILT:
        raise NotSupportedError(f"Aggregator {name} is not supported yet.", hint)
    if name not in BUILT:
        raise UserCodeError(f"There is no aggregator called {name!r}.", hint)
    if kwargs.get("use_secure_agg"):
        raise NotSupportedError("Secure aggregation (use_secure_agg: True) is not supported yet.")
    return FedAvgAggregator(kwargs.get("client_weights_mode", "equal"))
