"""FedQueue's mean: local steps and staleness weigh."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.fedqueue import FedQueueAggregator
from tests.aggregator.folds import fold, metas


def queue_weights(steps: list[int], ages: list[int], name: str = "harmonic") -> list[float]:
    aggregator = FedQueueAggregator(name, {"beta": 0.5})
    return aggregator.weights(metas([1] * len(steps), steps), ages, Cohort(9, 9), None)


def test_weights_are_steps_by_staleness() -> None:
    assert queue_weights([20, 60], [0, 4]) == pytest.approx([0.5, 0.5])
    exponential = queue_weights([20, 20], [0, 4], "exponential")
    assert exponential == pytest.approx([1 / (1 + math.exp(-2)), math.exp(-2) / (1 + math.exp(-2))])


def test_without_any_steps_staleness_alone_weighs() -> None:
    assert queue_weights([0, 0], [0, 2]) == pytest.approx([2 / 3, 1 / 3])


@given(
    st.lists(st.tuples(st.integers(-3, 10**9), st.integers(0, 10**5)), min_size=1, max_size=20),
    st.sampled_from(["harmonic", "exponential"]),
)
def test_weights_have_the_sum_one(updates: list[tuple[int, int]], name: str) -> None:
    weights = queue_weights([steps for steps, _ in updates], [age for _, age in updates], name)
    assert math.fsum(weights) == pytest.approx(1)
    assert min(weights) >= 0


def test_the_model_is_the_mean_of_values_or_loses_the_mean_of_differences() -> None:
    queue, done = FedQueueAggregator(), metas([1, 1], [10, 30])
    assert fold(queue, [1.0], [[2.0], [4.0]], done) == pytest.approx([3.5])
    assert fold(queue, [1.0], [[-1.0], [-3.0]], done, delta=True) == pytest.approx([3.5])
