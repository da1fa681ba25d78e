"""Aggregators by name: what a configuration may say of them, and what is told when it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from appfl_gc.aggregator.fedasync import FedBuffAggregator
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.krum import KrumAggregator
from appfl_gc.aggregator.registry import BUILT, make_aggregator, updates_per_aggregation
from appfl_gc.config.names import AGGREGATORS
from appfl_gc.config.schema.aggregator_kwargs import AGGREGATOR_KWARGS
from appfl_gc.config.schema.block import Status, support_of
from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from tests.aggregator.folds import KWARGS

INJECTED = {"num_clients": 9, "gradient_based": False}


def test_fedavg() -> None:
    aggregator = make_aggregator("FedAvgAggregator", {"client_weights_mode": "sample_size", **INJECTED})
    assert isinstance(aggregator, FedAvgAggregator)
    assert aggregator.client_weights_mode == "sample_size"


def test_the_names_that_work_are_those_that_the_configuration_says_work() -> None:
    assert set(BUILT) == {name for name, works in AGGREGATORS.items() if works}


@pytest.mark.parametrize("name", BUILT)
def test_every_key_that_works_is_an_argument_and_the_required_ones_are_required(name: str) -> None:
    fields = AGGREGATOR_KWARGS[name].model_fields
    working = {key for key, field in fields.items() if support_of(field).status is Status.WORKS}
    settings = {key: KWARGS[key] for key in working}
    assert isinstance(make_aggregator(name, {**settings, **INJECTED}), BUILT[name])
    for key in working:
        without: dict[str, Any] = {**settings, key: None}
        if support_of(fields[key]).required:
            with pytest.raises(UserCodeError, match=f"{name} needs {key}, which aggregator_kwargs lacks"):
                make_aggregator(name, without)
        elif key != "staleness_fn_kwargs":
            make_aggregator(name, without)


@pytest.mark.parametrize("name", BUILT)
def test_every_working_key_has_an_effect(name: str) -> None:
    """A value that is wrong is refused, which one that is not read would not be."""
    for key, field in AGGREGATOR_KWARGS[name].model_fields.items():
        if support_of(field).status is Status.WORKS:
            wrong = {"linear": 1} if key == "staleness_fn_kwargs" else "wrong"
            with pytest.raises(UserCodeError):
                make_aggregator(name, {**KWARGS, key: wrong})


def test_the_number_of_clients_is_taken_into_account_where_it_can_be_too_small() -> None:
    assert isinstance(
        make_aggregator("KrumAggregator", {"num_byzantine": 1, "num_clients": 5}), KrumAggregator
    )
    with pytest.raises(UserCodeError, match="needs 5 clients"):
        make_aggregator("KrumAggregator", {"num_byzantine": 1, "num_clients": 4})


def test_fedbuff_waits_for_its_buffer_and_no_other_does() -> None:
    assert isinstance(make_aggregator("FedBuffAggregator", {"K": 3}), FedBuffAggregator)
    assert updates_per_aggregation("FedBuffAggregator", {"K": 3}) == 3
    assert updates_per_aggregation("FedAsyncAggregator", {"K": 3}) == 1
    with pytest.raises(UserCodeError, match="FedBuffAggregator needs K"):
        updates_per_aggregation("FedBuffAggregator", {})
    with pytest.raises(UserCodeError, match="K is 0"):
        updates_per_aggregation("FedBuffAggregator", {"K": 0})


@pytest.mark.parametrize("name", sorted(set(AGGREGATORS) - set(BUILT)))
def test_published_ones_that_are_not_built(name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"{name} is not supported yet") as caught:
        make_aggregator(name, {})
    assert "FedAvgAggregator" in caught.value.hint


@pytest.mark.parametrize("name", BUILT)
def test_secure_aggregation_is_not_ignored(name: str) -> None:
    with pytest.raises(NotSupportedError, match="use_secure_agg"):
        make_aggregator(name, {**KWARGS, "use_secure_agg": True})


def test_unknown() -> None:
    with pytest.raises(UserCodeError, match="'FedAverage'"):
        make_aggregator("FedAverage", {})
