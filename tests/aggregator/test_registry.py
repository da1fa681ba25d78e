"""Aggregators by name."""

from __future__ import annotations

import pytest

from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.registry import make_aggregator
from appfl_gc.protocol.errors import NotSupportedError, UserCodeError


def test_fedavg() -> None:
    aggregator = make_aggregator("FedAvgAggregator", {"client_weights_mode": "sample_size", "num_clients": 2})
    assert isinstance(aggregator, FedAvgAggregator)
    assert aggregator.client_weights_mode == "sample_size"


def test_published_ones_that_are_not_built() -> None:
    with pytest.raises(NotSupportedError, match=r"VFLAggregator is not supported yet") as caught:
        make_aggregator("VFLAggregator", {})
    assert "FedAvgAggregator" in caught.value.hint


def test_secure_aggregation_is_not_ignored() -> None:
    with pytest.raises(NotSupportedError, match="use_secure_agg"):
        make_aggregator("FedAvgAggregator", {"use_secure_agg": True})


def test_unknown() -> None:
    with pytest.raises(UserCodeError, match="'FedAverage'"):
        make_aggregator("FedAverage", {})
