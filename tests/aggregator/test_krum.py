"""Krum and Multi-Krum against their definition, and how many liars they bear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.krum import KrumAggregator
from appfl_gc.protocol.errors import UserCodeError
from tests.aggregator.folds import block, fold, metas


def chosen(updates: np.ndarray, byzantine: int, selected: int) -> np.ndarray:
    """The definition, update by update."""
    count = len(updates)
    scores = []
    for i in range(count):
        others = sorted(float(((updates[i] - updates[j]) ** 2).sum()) for j in range(count) if j != i)
        scores.append(sum(others[: count - byzantine - 2]))
    best = sorted(range(count), key=lambda i: (scores[i], i))[:selected]
    return np.asarray(updates[best].mean(axis=0))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(0, 6), st.integers(1, 3), st.booleans())
def test_the_model_is_the_mean_of_the_updates_with_the_smallest_scores(
    seed: int, byzantine: int, more: int, selected: int, delta: bool
) -> None:
    rng = np.random.default_rng(seed)
    updates = rng.normal(size=(2 * byzantine + 3 + more, 4))
    current = rng.normal(size=4)
    krum = KrumAggregator(byzantine, selected)
    expected = chosen(updates, byzantine, selected)
    sent = current - updates if delta else updates
    assert fold(krum, current.tolist(), sent.tolist(), delta=delta) == pytest.approx(expected.tolist())


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.lists(st.sampled_from([1e30, -1e30, 1e3, 0.9]), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
def test_liars_that_are_few_enough_are_not_chosen_unless_they_are_like_the_others(
    seed: int, byzantine: int, lies: list[float], random: Any
) -> None:
    rng = np.random.default_rng(seed)
    honest = rng.uniform(-1, 1, size=(byzantine + 3, 3))
    liars = np.array([[lie] * 3 for lie in lies[:byzantine]])
    everybody = [*honest.tolist(), *liars.tolist()]
    random.shuffle(everybody)
    new = fold(KrumAggregator(byzantine), [0.0] * 3, everybody)
    assert max(map(abs, new)) <= 1


def test_the_same_updates_give_the_buffers() -> None:
    updates = [
        {"w": torch.tensor([w]), "n": torch.tensor([n])}
        for w, n in ((1.0, 10), (1.1, 20), (9.0, 90), (1.25, 30))
    ]
    state = {"w": torch.zeros(1), "n": torch.tensor([0])}
    model = InMemoryModel(state, frozenset({"w"}), KrumAggregator(0, 2))
    new = model.fold(updates, metas([1] * 4), [0] * 4, Cohort(4, 4))
    assert new["w"].item() == pytest.approx(1.05)
    assert new["n"].item() == 15


def test_distances_far_from_zero_are_not_lost_to_rounding() -> None:
    """Models of size 10^8 that differ by 1: squares of the values would swallow the differences."""
    offset = 1e8
    updates = [[offset + value] for value in (0.0, 1.0, 1.2, 1.4, 9.0)]
    assert fold(KrumAggregator(1), [offset], updates) == [offset + 1.2]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_fold_of_too_few_updates_still_has_a_model(count: int) -> None:
    values = [[1.0], [1.1], [1.3], [100.0]][:count]
    [new] = fold(KrumAggregator(2, 3), [0.0], values)
    assert new == pytest.approx({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.05}[count])


def test_without_trained_tensors_the_first_updates_are_as_good_as_any() -> None:
    assert KrumAggregator(1, 2).weights(metas([1] * 5), [0] * 5, Cohort(5, 5), None) == [0.5, 0.5, 0, 0, 0]


def test_products_of_a_block_are_of_the_moves() -> None:
    gram = KrumAggregator(0).look(block([1.0, 1.0], [[2.0, 1.0], [1.0, 3.0]]))
    assert gram.tolist() == [[1, 0], [0, 4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "num_byzantine is -1; expected a whole number of at least 0"),
        ((1.0,), "num_byzantine is 1.0"),
        ((1, 0), "num_selected is 0"),
        ((1, 1, 4), "needs 5 clients or more; the run has 4"),
        ((1, 5, 5), "num_selected is 5; of 5 clients without num_byzantine 1 there are 4"),
    ],
)
def test_wrong_arguments_are_told(arguments: Any, message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        KrumAggregator(*arguments)
