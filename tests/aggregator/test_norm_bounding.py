"""Norm bounding: no update moves the model further than its share of the bound."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.norm_bounding import NormBoundingAggregator
from appfl_gc.protocol.errors import UserCodeError
from tests.aggregator.folds import fold, metas


@pytest.mark.parametrize("delta", [False, True])
def test_a_long_update_is_shortened_and_a_short_one_is_not(delta: bool) -> None:
    bounding = NormBoundingAggregator(1.0, "sample_size")
    moves = [[3.0, 4.0], [0.0, 0.5]]
    sign = -1 if delta else 1
    updates = [[(0 if delta else 1) + sign * move for move in row] for row in moves]
    new = fold(bounding, [1.0, 1.0], updates, metas([1, 3]), delta=delta)
    assert new == pytest.approx([1 + 0.25 * 0.6, 1 + 0.25 * 0.8 + 0.75 * 0.5])


coordinates = st.lists(st.floats(-1e12, 1e12), min_size=3, max_size=3)


@given(st.lists(coordinates, min_size=1, max_size=6), st.floats(1e-3, 1e3), st.booleans())
def test_the_model_moves_by_the_bound_at_most(updates: list[list[float]], bound: float, delta: bool) -> None:
    start = [1.0, -1.0, 0.5]
    new = fold(NormBoundingAggregator(bound), start, updates, delta=delta)
    assert math.dist(new, start) <= bound * (1 + 1e-9) + 1e-9


def test_the_norm_is_over_all_trained_tensors_and_buffers_are_not_in_it() -> None:
    state = {"a": torch.zeros(1), "b": torch.zeros(1).double(), "buffer": torch.zeros(1)}
    model = InMemoryModel(state, frozenset({"a", "b"}), NormBoundingAggregator(1.0))
    update = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0]).double(), "buffer": torch.tensor([100.0])}
    new = model.fold([update], metas([1]), [0], Cohort(1, 1))
    assert new["a"].item() == pytest.approx(0.6)
    assert new["b"].item() == pytest.approx(0.8)
    assert new["buffer"].item() == 100


def test_a_norm_beyond_all_numbers_moves_nothing() -> None:
    new = fold(NormBoundingAggregator(1.0), [1.0], [[1e300]])
    assert new == [1.0]


@pytest.mark.parametrize("bound", [0, -1, math.inf, "1"])
def test_a_bound_is_a_positive_number(bound: float) -> None:
    with pytest.raises(UserCodeError, match="norm_bound is"):
        NormBoundingAggregator(bound)
