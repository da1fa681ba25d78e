"""Asynchronous aggregators against their closed form: w + sum of alpha s(t_k) p_k (x_k - w)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.client_weights import MOST_EXAMPLES, shares_of_all
from appfl_gc.aggregator.fedasync import FedAsyncAggregator, FedBuffAggregator, FedCompassAggregator
from appfl_gc.protocol.errors import UserCodeError
from tests.aggregator.folds import fold, metas

POLYNOMIAL: dict[str, Any] = {"staleness_fn": "polynomial", "staleness_fn_kwargs": {"a": 0.5}}


def test_one_update_moves_the_model_by_its_clients_share() -> None:
    fedasync = FedAsyncAggregator(alpha=0.8)
    assert fold(fedasync, [1.0, 2.0], [[3.0, 0.0]], cohort=Cohort(4, 0)) == pytest.approx([1.4, 1.6])
    assert fold(fedasync, [1.0, 2.0], [[-2.0, 2.0]], cohort=Cohort(4, 0), delta=True) == pytest.approx(
        [1.4, 1.6]
    )


def test_training_examples_weigh_against_those_of_all_clients() -> None:
    fedasync = FedAsyncAggregator("sample_size", alpha=0.5)
    assert fold(fedasync, [0.0], [[10.0]], metas([30]), cohort=Cohort(2, 100)) == pytest.approx([1.5])


@pytest.mark.parametrize("size", [-1, MOST_EXAMPLES + 1])
def test_a_number_of_examples_that_cannot_be_is_the_share_of_a_client(size: int) -> None:
    assert shares_of_all("sample_size", metas([size, 5]), Cohort(4, 10)) == [0.25, 0.5]
    assert shares_of_all("sample_size", metas([7]), Cohort(4, 0)) == [0.25]
    assert shares_of_all("sample_size", metas([50]), Cohort(4, 10)) == [1.0]


@pytest.mark.parametrize("delta", [False, True])
def test_a_stale_update_counts_less(delta: bool) -> None:
    fedasync = FedAsyncAggregator(alpha=1.0, **POLYNOMIAL)
    update = [-2.0 if delta else 2.0]
    new = fold(fedasync, [0.0], [update], staleness=[3], cohort=Cohort(2, 0), delta=delta)
    assert new == pytest.approx([0.5 * 0.5 * 2.0])


def test_a_buffer_is_the_sum_of_its_updates() -> None:
    fedbuff = FedBuffAggregator(2, alpha=0.9, **POLYNOMIAL)
    new = fold(fedbuff, [1.0], [[4.0], [-2.0]], staleness=[0, 3], cohort=Cohort(3, 0))
    assert new == pytest.approx([1 + 0.3 * 3 - 0.15 * 3])
    assert fedbuff.K == 2


def test_fedcompass_weighs_clients_equally() -> None:
    compass = FedCompassAggregator(alpha=0.9)
    new = fold(compass, [0.0], [[1.0], [2.0]], metas([1, 10**6]), cohort=Cohort(3, 10**6 + 1))
    assert new == pytest.approx([0.9])


def test_a_round_of_all_clients_moves_the_model_by_alpha() -> None:
    fedasync = FedAsyncAggregator("sample_size", alpha=0.7)
    weights = fedasync.weights(metas([1, 2, 5]), [0, 0, 0], Cohort(3, 8), None)
    assert sum(weights) == pytest.approx(0.7)


@given(st.floats(0.01, 3), st.integers(1, 6), st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_a_buffer_of_the_model_stays_among_its_values(
    alpha: float, clients: int, values: list[float]
) -> None:
    """A running variance must not become negative, however many updates a fold has."""
    fedbuff = FedBuffAggregator(1, alpha=alpha)
    [new] = fold(fedbuff, [1.0], [[v] for v in values], cohort=Cohort(clients, 0), trained=False)
    assert min([1.0, *values]) - 1e-9 <= new <= max([1.0, *values]) + 1e-9
    share = min(1.0, alpha * len(values) / clients)
    assert new == pytest.approx((1 - share) + share * sum(values) / len(values), abs=1e-9)


def test_whole_numbers_move_and_equal_ones_stay() -> None:
    fedasync = FedAsyncAggregator(alpha=1.0)
    new = fold(fedasync, [100], [[200]], cohort=Cohort(4, 0), trained=False, dtype=torch.int64)
    assert new == [125]
    large = 2**62 + 1
    assert fold(fedasync, [large], [[large]], cohort=Cohort(3, 0), dtype=torch.int64) == [large]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedAsyncAggregator(alpha=0), "alpha is 0"),
        (lambda: FedAsyncAggregator(alpha=float("inf")), "alpha is inf"),
        (lambda: FedAsyncAggregator("half"), "client_weights_mode is 'half'; FedAsyncAggregator knows"),
        (lambda: FedAsyncAggregator(staleness_fn="poly"), "staleness_fn is 'poly'"),
        (lambda: FedBuffAggregator(0), "K is 0"),
        (lambda: FedBuffAggregator(2.0), "K is 2.0"),
        (lambda: FedBuffAggregator(True), "K is True"),
    ],
)
def test_wrong_arguments_are_told(make: Any, message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        make()
