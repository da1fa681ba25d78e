"""Weighted sums against the closed form in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.aggregator.weighted_sum import WeightedSums

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]


def spacing(value: Fraction, dtype: torch.dtype) -> Fraction:
    """One unit in the last place of ``dtype`` at ``value``, exactly."""
    info = torch.finfo(dtype)
    exponent = max(abs(value), Fraction(info.smallest_normal))
    power = Fraction(1)
    while power * 2 <= exponent:
        power *= 2
    while power > exponent:
        power /= 2
    return power * Fraction(info.eps)


def weights_of(draw: st.DrawFn, count: int) -> list[float]:
    if draw(st.booleans()):
        return [1 / count] * count
    sizes = draw(st.lists(st.integers(1, 10_000), min_size=count, max_size=count))
    return [size / sum(sizes) for size in sizes]


@st.composite
def float_rows(draw: st.DrawFn) -> tuple[torch.Tensor, list[float]]:
    count, width = draw(st.integers(1, 11)), draw(st.integers(0, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    rows *= 10.0 ** draw(st.integers(-6, 3))
    if draw(st.booleans()) and width:
        rows += rows[:1] * 100
    dtype = draw(st.sampled_from(FLOATS))
    largest = torch.finfo(dtype).max
    return rows.clamp(-largest, largest).to(dtype), weights_of(draw, count)


@settings(max_examples=200, deadline=None)
@given(float_rows())
def test_floats_are_the_closed_form_to_one_unit(case: tuple[torch.Tensor, list[float]]) -> None:
    rows, weights = case
    before = rows.clone()
    result = WeightedSums().mean(rows, weights)
    assert result.dtype == rows.dtype
    assert result.shape == rows.shape[1:]
    assert torch.equal(rows, before)
    for column in range(rows.shape[1]):
        terms = [Fraction(w) * Fraction(x.item()) for w, x in zip(weights, rows[:, column], strict=True)]
        _close(result[column], sum(terms), sum(map(abs, terms)), len(terms))


@settings(max_examples=100, deadline=None)
@given(float_rows(), st.integers(0, 1000))
def test_differences_are_subtracted(case: tuple[torch.Tensor, list[float]], seed: int) -> None:
    rows, weights = case
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(rows.shape[1], generator=generator).to(rows.dtype)
    result = WeightedSums().subtracted(start, rows, weights)
    for column in range(rows.shape[1]):
        terms = [Fraction(w) * Fraction(x.item()) for w, x in zip(weights, rows[:, column], strict=True)]
        first = Fraction(start[column].item())
        _close(result[column], first - sum(terms), abs(first) + sum(map(abs, terms)), len(terms))


@settings(max_examples=100, deadline=None)
@given(float_rows(), st.integers(0, 1000), st.floats(0.01, 2))
def test_a_model_moves_towards_its_updates(
    case: tuple[torch.Tensor, list[float]], seed: int, alpha: float
) -> None:
    rows, weights = case
    parts = [alpha * weight for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(rows.shape[1], generator=generator).to(rows.dtype)
    result = WeightedSums().towards(start, rows, parts)
    for column in range(rows.shape[1]):
        first = Fraction(start[column].item())
        values = [Fraction(x.item()) for x in rows[:, column]]
        exact = first + sum(Fraction(w) * (x - first) for w, x in zip(parts, values, strict=True))
        scale = sum(Fraction(w) * (abs(x) + abs(first)) for w, x in zip(parts, values, strict=True))
        _close(result[column], exact, 2 * (scale + abs(first)), len(values))


def _close(found: torch.Tensor, exact: Fraction, scale: Fraction, count: int) -> None:
    if found.isinf():
        assert abs(exact) >= Fraction(torch.finfo(found.dtype).max), "more than the type holds"
        return
    # What is promised of the value before the final rounding; where terms cancel, it exceeds a unit of the result.
    before_rounding = 2 * count * scale * Fraction(2) ** (-63 if found.dtype is torch.float64 else -53)
    error = abs(Fraction(found.item()) - exact)
    assert error <= spacing(exact, found.dtype) + before_rounding


def test_float32_is_rounded_once() -> None:
    rows = torch.randn(50, 2000, generator=torch.Generator().manual_seed(1))
    weights = [1 / 50] * 50
    exact = (rows.double() * (1 / 50)).sum(0)
    error = (WeightedSums().mean(rows, weights).double() - exact).abs()
    assert (error <= exact.abs() * 2**-24 + 1e-12).all()


def test_cancelling_float32_keeps_what_single_precision_would_lose() -> None:
    rows = torch.tensor([[1e8], [1.0], [-1e8]])
    assert WeightedSums().mean(rows, [0.25, 0.5, 0.25]).item() == 0.5


@st.composite
def integer_rows(draw: st.DrawFn) -> tuple[torch.Tensor, list[float]]:
    count, width = draw(st.integers(1, 6)), draw(st.integers(0, 5))
    dtype = draw(st.sampled_from(INTEGERS))
    info = torch.iinfo(dtype)
    bound = draw(st.sampled_from([3, 100, info.max]))
    values = st.integers(max(info.min, -bound), min(info.max, bound))
    rows = draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=count, max_size=count))
    return torch.tensor(rows, dtype=dtype).reshape(count, width), weights_of(draw, count)


@settings(max_examples=200, deadline=None)
@given(integer_rows())
def test_integers_are_the_nearest_to_the_mean(case: tuple[torch.Tensor, list[float]]) -> None:
    rows, weights = case
    result = WeightedSums().mean(rows, weights)
    assert result.dtype == rows.dtype
    for column in range(rows.shape[1]):
        values = [int(x) for x in rows[:, column]]
        shift = sum(Fraction(w) * (x - values[0]) for w, x in zip(weights, values, strict=True))
        error = abs(int(result[column]) - (values[0] + shift))
        # Values that fill 64 bits leave no bits for the fraction: there, a unit may be lost.
        wide = max(map(abs, values)) > 2**50
        assert error <= (1 if wide else Fraction(1, 2) + Fraction(1, 1000))


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**53 + 1, 0])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_equal_integers_stay_exactly(value: int, count: int) -> None:
    rows = torch.full((count, 2), value, dtype=torch.int64)
    assert WeightedSums().mean(rows, [1 / count] * count).tolist() == [value, value]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_equal_rows_stay_exactly(dtype: torch.dtype) -> None:
    row = (torch.randn(100, generator=torch.Generator().manual_seed(0)) * 50).abs().to(dtype)
    assert torch.equal(WeightedSums().mean(row.expand(3, -1), [1 / 3] * 3), row)


def test_ties_go_to_even() -> None:
    rows = torch.tensor([[0, 1, 2, -1], [1, 2, 3, -2]])
    assert WeightedSums().mean(rows, [0.5, 0.5]).tolist() == [0, 2, 2, -2]


def test_bools_are_the_majority() -> None:
    rows = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert WeightedSums().mean(rows, [0.4, 0.4, 0.2]).tolist() == [True, False, False]
    assert WeightedSums().mean(rows[:2], [0.5, 0.5]).tolist() == [True, False, False]


def test_integer_differences_stay_in_range() -> None:
    start, rows = (
        torch.tensor([10, 250], dtype=torch.uint8),
        torch.tensor([[3, 4], [4, 4]], dtype=torch.uint8),
    )
    assert WeightedSums().subtracted(start, rows, [0.5, 0.5]).tolist() == [6, 246]
    assert WeightedSums().subtracted(start, rows * 20, [0.5, 0.5]).tolist() == [0, 170]
