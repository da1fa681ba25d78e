"""A model in memory: what simulations rely on beyond the bits."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.fedasync import FedAsyncAggregator
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.protocol.errors import UserCodeError
from tests.aggregator.folds import metas

NAMES = frozenset({"w", "v"})


def state(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((2, 2), value), "v": torch.full((3,), value)}


def test_an_older_version_stays_what_it_was() -> None:
    """Clients that work on it may still be under way."""
    model = InMemoryModel(state(0.0), NAMES, FedAvgAggregator())
    versions = [model.state]
    versions += [model.fold([state(float(value))], metas([1]), [0], Cohort(1, 1)) for value in (1, 2)]
    assert [version["w"].unique().item() for version in versions] == [0, 1, 2]
    assert [version["v"].unique().item() for version in versions] == [0, 1, 2]


def test_folds_of_different_sizes_and_meanings_may_follow_each_other() -> None:
    model = InMemoryModel(state(0.0), NAMES, FedAvgAggregator())
    model.fold([state(1.0), state(3.0)], metas([1, 1]), [0, 0], Cohort(2, 2))
    model.fold([state(0.5)], metas([1]), [0], Cohort(2, 2), NAMES)
    new = model.fold([state(10.0), {**state(1.0)}], metas([1, 1]), [0, 0], Cohort(2, 2), frozenset({"v"}))
    assert new["w"].unique().item() == 5.5
    assert new["v"].unique().item() == 1.5 - 5.5


def test_a_users_class_gets_whole_models() -> None:
    class Last:
        def aggregate(self, local_models: dict[str, Any], staleness: dict[str, int]) -> Any:
            self.staleness = staleness
            return local_models["c1"]

    mine = Last()
    model = InMemoryModel(state(0.0), NAMES, UserClassAggregator(mine))
    new = model.fold([state(1.0), state(2.0)], metas([1, 1]), [0, 4], Cohort(2, 2))
    assert new["w"].unique().item() == 2
    assert mine.staleness == {"c0": 0, "c1": 4}


def test_a_model_that_is_not_finite_is_told() -> None:
    model = InMemoryModel(state(3e38), NAMES, FedAsyncAggregator(alpha=5.0))
    with pytest.raises(UserCodeError, match=r"not finite.*infinite.*'w'"):
        model.fold([state(-3e38)], metas([1]), [0], Cohort(1, 1))
    assert model.state["w"].unique().item() == pytest.approx(3e38)


def test_ten_thousand_small_updates_take_no_minute() -> None:
    model = InMemoryModel(state(0.0), NAMES, FedAvgAggregator())
    updates = [state(float(number)) for number in range(10_000)]
    start = time.perf_counter()
    new = model.fold(updates, metas([1] * 10_000), [0] * 10_000, Cohort(10_000, 10_000))
    assert time.perf_counter() - start < 20
    assert new["w"].unique().item() == pytest.approx(4999.5)
