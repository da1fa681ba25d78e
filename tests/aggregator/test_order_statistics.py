"""Median and trimmed mean: the definitions, the sorting under them, and how many liars they bear."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.aggregator import sorting
from appfl_gc.aggregator.order_statistics import CoordinateMedianAggregator, TrimmedMeanAggregator
from appfl_gc.aggregator.sorting import Sorting
from appfl_gc.protocol.errors import UserCodeError
from tests.aggregator.folds import fold

numbers = st.floats(-1e6, 1e6, width=32)


@pytest.mark.parametrize("rows", range(1, 11))
def test_the_network_sorts_every_sequence_of_zeros_and_ones(rows: int) -> None:
    """Then it sorts everything (Knuth, section 5.3.4, theorem Z)."""
    matrix = torch.tensor(list(itertools.product([0, 1], repeat=rows)), dtype=torch.float32).t()
    expected = matrix.sort(dim=0).values
    for trimmed in range((rows + 1) // 2):
        middle = Sorting(rows, trimmed).middle(matrix)
        assert torch.equal(middle, expected[trimmed : rows - trimmed])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("rows", [17, 70, sorting.MOST_ROWS + 1])
def test_many_rows_of_any_dtype_are_sorted(dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    matrix = (torch.randn(rows, 40, generator=generator) * 100).to(dtype)
    before = matrix.clone()
    assert torch.equal(Sorting(rows, 5).middle(matrix), before.sort(dim=0).values[5:-5])
    assert torch.equal(matrix, before)


def test_more_columns_than_are_sorted_at_once() -> None:
    matrix = torch.randn(3, 2 * sorting.WIDTH + 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Sorting(3, 1).middle(matrix)[0], matrix.median(dim=0).values)


@pytest.mark.parametrize("rows", [3, sorting.MOST_ROWS + 1])
def test_zeros_of_either_sign_are_one_zero(rows: int) -> None:
    """Which of them a minimum takes depends on the processor and on the place in the block."""
    zeros = torch.zeros(rows, 33)
    zeros[::2] *= -1
    for matrix in (zeros, zeros.flip(0)):
        assert not Sorting(rows, 1).middle(matrix).signbit().any()


@given(st.lists(numbers, min_size=1, max_size=9))
def test_the_median_is_numpys(values: list[float]) -> None:
    expected = float(np.median(values))
    updates = [[value] for value in values]
    assert fold(CoordinateMedianAggregator(), [3.0], updates) == pytest.approx([expected], rel=1e-12)
    moved = fold(CoordinateMedianAggregator(), [3.0], updates, delta=True)
    assert moved == pytest.approx([3.0 - expected], rel=1e-12)
    assert fold(CoordinateMedianAggregator(), [3.0], updates, trained=False) == pytest.approx([expected])


@given(st.lists(numbers, min_size=1, max_size=12), st.floats(0, 0.49))
def test_the_trimmed_mean_is_the_papers(values: list[float], fraction: float) -> None:
    cut = int(fraction * len(values) + 1e-9)
    expected = float(np.mean(sorted(values)[cut : len(values) - cut]))
    updates = [[value] for value in values]
    new = fold(TrimmedMeanAggregator(fraction), [3.0], updates)
    assert new == pytest.approx([expected], rel=1e-9, abs=1e-9)
    moved = fold(TrimmedMeanAggregator(fraction), [3.0], updates, delta=True)
    assert moved == pytest.approx([3.0 - expected], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("fraction", "count", "cut"), [(0.29, 100, 29), (0.1, 30, 3), (0.2, 5, 1), (0.2, 4, 0)]
)
def test_a_share_that_is_a_whole_number_is_that_number(fraction: float, count: int, cut: int) -> None:
    values = list(range(count))
    outliers = [[1e9] if value >= count - cut else [float(value)] for value in values]
    [new] = fold(TrimmedMeanAggregator(fraction), [0.0], outliers)
    assert new == pytest.approx(np.mean(values[cut : count - cut]))


@st.composite
def attacked(draw: st.DrawFn, largest_share: float) -> tuple[list[float], list[float], list[int]]:
    """Honest values, values of liars fewer than a share of all, and an order of both."""
    honest = draw(st.lists(st.floats(-10, 10), min_size=2, max_size=9))
    most = 0
    while (most + 1) / (len(honest) + most + 1) <= largest_share and most + 1 < len(honest):
        most += 1
    liars = draw(st.lists(st.sampled_from([-1e30, 1e30, 0.0, 11.0]), min_size=0, max_size=most))
    return honest, liars, draw(st.permutations(range(len(honest) + len(liars))))


@settings(max_examples=200)
@given(attacked(0.5), st.booleans())
def test_fewer_than_half_cannot_move_the_median_out_of_the_others(
    case: tuple[list[float], list[float], list[int]], trained: bool
) -> None:
    honest, liars, order = case
    everybody = [[value] for value in [*honest, *liars]]
    [new] = fold(CoordinateMedianAggregator(), [0.0], [everybody[i] for i in order], trained=trained)
    assert min(honest) <= new <= max(honest)


@settings(max_examples=200)
@given(attacked(0.3))
def test_as_many_as_are_trimmed_cannot_move_the_trimmed_mean_out_of_the_others(
    case: tuple[list[float], list[float], list[int]],
) -> None:
    honest, liars, order = case
    everybody = [[value] for value in [*honest, *liars]]
    [new] = fold(TrimmedMeanAggregator(0.3), [0.0], [everybody[i] for i in order])
    slack = 1e-9
    assert min(honest) - slack <= new <= max(honest) + slack


def test_half_of_the_updates_do_move_the_median() -> None:
    assert fold(CoordinateMedianAggregator(), [0.0], [[1.0], [1.0], [1e9], [1e9]])[0] > 1e8


def test_whole_numbers_and_bools_have_medians() -> None:
    counters = fold(CoordinateMedianAggregator(), [0], [[5], [2**62], [6]], dtype=torch.int64)
    assert counters == [6]
    assert fold(CoordinateMedianAggregator(), [0], [[5], [8]], dtype=torch.int64) == [6]
    assert fold(CoordinateMedianAggregator(), [0], [[1], [1], [0]], dtype=torch.bool) == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5,), "trim_fraction is 0.5; expected a number of at least 0 and below 0.5"),
        ((-0.1,), "trim_fraction is -0.1"),
        ((0.1, 9), "trim_fraction 0.1 of 9 clients is less than one"),
        ((0.4, 2), "trim_fraction 0.4 of 2 clients is less than one"),
    ],
)
def test_a_fraction_that_protects_from_nothing_is_told(arguments: Any, message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        TrimmedMeanAggregator(*arguments)
