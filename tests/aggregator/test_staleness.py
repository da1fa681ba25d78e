"""Staleness functions: the published formulas, and what every one of them promises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.staleness import NAMES, discount
from appfl_gc.protocol.errors import UserCodeError


@pytest.mark.parametrize(
    ("name", "kwargs", "staleness", "expected"),
    [
        ("constant", {}, 9, 1.0),
        ("polynomial", {"a": 0.5}, 3, 0.5),
        ("polynomial", {"a": 1}, 4, 0.2),
        ("hinge", {"a": 2, "b": 3}, 3, 1.0),
        ("hinge", {"a": 2, "b": 3}, 5, 1 / 5),
        ("harmonic", {"beta": 0.5}, 4, 1 / 3),
        ("exponential", {"beta": 0.5}, 4, math.exp(-2)),
        ("constant", {"a": 0.5}, 4, 1.0),
    ],
)
def test_the_published_formulas(name: str, kwargs: dict[str, float], staleness: int, expected: float) -> None:
    assert discount(name, kwargs)(staleness) == pytest.approx(expected, rel=1e-15)


parameters = st.floats(0, 1e3) | st.integers(0, 20)


@given(
    st.sampled_from(NAMES),
    st.fixed_dictionaries({"a": parameters, "b": parameters, "beta": parameters}),
    st.lists(st.integers(0, 10**6), min_size=2, max_size=2),
)
def test_a_fresh_update_counts_whole_and_an_older_one_never_more(
    name: str, kwargs: dict[str, float], ages: list[int]
) -> None:
    function = discount(name, kwargs)
    younger, older = sorted(ages)
    assert function(0) == 1
    assert 0 < function(older) <= function(younger) <= 1


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("linear", {}, "'linear'.*polynomial"),
        ("polynomial", {}, "needs a,"),
        ("polynomial", {"a": None}, "needs a,"),
        ("hinge", {"b": 1}, "needs a,"),
        ("harmonic", {"a": 1}, "needs beta,"),
        ("exponential", {"beta": -1}, "staleness_fn_kwargs.beta is -1"),
        ("exponential", {"beta": "1"}, "staleness_fn_kwargs.beta is '1'"),
        ("exponential", {"beta": math.nan}, "staleness_fn_kwargs.beta is nan"),
        ("polynomial", {"a": True}, "staleness_fn_kwargs.a is True"),
        ("polynomial", {"a": 1, "alpha": 1}, "'alpha'; known are a, b, beta"),
    ],
)
def test_wrong_arguments_are_told(name: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        discount(name, kwargs)
