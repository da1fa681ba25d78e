"""Federated averaging: whose update counts how much."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Block, Cohort
from appfl_gc.aggregator.client_weights import MODES, MOST_EXAMPLES
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.update_spec import Meaning


def metas(*sizes: int) -> list[UpdateMeta]:
    return [
        UpdateMeta(UpdateId(f"client{i}", 1), 0, size, 1, Timing(0, 0, 0, 0)) for i, size in enumerate(sizes)
    ]


COHORT = Cohort(10, 1000)


def weights(mode: str, *sizes: int) -> list[float]:
    return FedAvgAggregator(mode).weights(metas(*sizes), [0] * len(sizes), COHORT, None)


def test_equal() -> None:
    assert weights("equal", 1, 99) == [0.5, 0.5]


def test_sample_size() -> None:
    assert weights("sample_size", 1, 3) == [0.25, 0.75]


@pytest.mark.parametrize("sizes", [(0, 0), (5, -1), (-5, 5), (5, MOST_EXAMPLES + 1), (10**400, 1)])
def test_sizes_that_cannot_weigh_count_alike(sizes: tuple[int, int]) -> None:
    assert weights("sample_size", *sizes) == [0.5, 0.5]


def test_a_client_without_examples_does_not_count_beside_one_with_many() -> None:
    assert weights("sample_size", 0, MOST_EXAMPLES) == [0.0, 1.0]


@given(st.lists(st.integers(-3, 2 * MOST_EXAMPLES), min_size=1, max_size=30), st.sampled_from(MODES))
def test_weights_have_the_sum_one_whatever_clients_say(sizes: list[int], mode: str) -> None:
    found = weights(mode, *sizes)
    assert math.fsum(found) == pytest.approx(1)
    assert min(found) >= 0


def test_unknown_mode() -> None:
    with pytest.raises(UserCodeError, match="num_examples"):
        FedAvgAggregator("num_examples")


def test_a_difference_is_taken_from_the_model_and_a_value_replaces_it() -> None:
    current, updates = torch.tensor([1.0]), torch.tensor([[0.1], [0.3]])
    for meaning, expected in ((Meaning.DELTA, 0.8), (Meaning.VALUE, 0.2)):
        new, state = FedAvgAggregator().reduce(Block(current, updates, meaning, True), [0.5, 0.5])
        assert new.item() == pytest.approx(expected)
        assert not state
    assert current.item() == 1.0
