"""Which numbers fit a range, and how it is said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.number_range import NumberRange

HALF_OPEN = NumberRange(at_least=0, below=1)


@pytest.mark.parametrize("value", [True, "1", None, [1], math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_finite_number_is_in_no_range(value: object) -> None:
    assert value not in NumberRange()


@pytest.mark.parametrize(
    ("expected", "inside", "outside"),
    [
        (HALF_OPEN, [0, 0.0, 0.999], [-0.001, 1, 1.0]),
        (NumberRange(above=0, at_most=1), [0.001, 1], [0, -0.0, 1.001]),
        (NumberRange(at_least=2, whole=True), [2, 10**12], [1, 2.0, 3.5]),
        (NumberRange(above=0, finite=False), [math.inf, 1], [0, -math.inf, math.nan]),
    ],
)
def test_bounds(expected: NumberRange, inside: list[float], outside: list[float]) -> None:
    assert [value for value in inside if value not in expected] == []
    assert [value for value in outside if value in expected] == []


@given(st.one_of(st.floats(), st.integers()))
def test_a_half_open_range_is_what_python_says(value: float) -> None:
    assert (value in HALF_OPEN) == (0 <= value < 1)


def test_in_words() -> None:
    assert str(HALF_OPEN) == "a number of at least 0 and below 1"
    assert str(NumberRange(at_least=0, at_most=1)) == "a number of at least 0 and at most 1"
    assert str(NumberRange(at_least=1, whole=True)) == "a whole number of at least 1"
    assert str(NumberRange(above=0, finite=False)) == "a number above 0"
    assert str(NumberRange()) == "a number"
