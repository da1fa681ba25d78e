from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.simulation.draws import (
    LEAST_OF_NORMAL,
    Chance,
    Constant,
    Draw,
    Exponential,
    Jittered,
    Lognormal,
    Normal,
    Samples,
)

MANY = 4000


def drawn(what: Draw, count: int = MANY) -> list[float]:
    return [what.draw(Chance(1, "client", dispatch, "queue")) for dispatch in range(1, count + 1)]


@pytest.mark.parametrize(
    ("what", "mean", "sigma"),
    [
        (Constant(3.0), 3.0, 0.0),
        (Normal(10.0, 1.5), 10.0, 1.5),
        (Exponential(4.0), 4.0, 4.0),
        (Lognormal(8.0, 0.4), 8.0, 8.0 * math.sqrt(math.expm1(0.4**2))),
        (Jittered(Constant(2.0), 0.1), 2.0, 2.0 * math.sqrt(math.expm1(0.1**2))),
    ],
)
def test_a_distribution_has_its_mean_and_spread(what: Draw, mean: float, sigma: float) -> None:
    values = drawn(what)
    assert statistics.fmean(values) == pytest.approx(mean, abs=4 * sigma / math.sqrt(MANY))
    assert statistics.pstdev(values) == pytest.approx(sigma, rel=0.1, abs=1e-12)


def test_the_logarithm_of_a_lognormal_has_its_sigma() -> None:
    logarithms = [math.log(value) for value in drawn(Lognormal(600.0, 0.8))]
    assert statistics.pstdev(logarithms) == pytest.approx(0.8, rel=0.05)


@given(st.integers(0, 2**40), st.text(min_size=1, max_size=8), st.integers(0, 10**6), st.sampled_from("ab"))
def test_a_draw_is_a_function_of_whose_and_what_it_is(
    seed: int, client: str, dispatch: int, what: str
) -> None:
    chance = Chance(seed, client, dispatch, what)
    assert 0 < chance.uniform < 1
    assert chance.uniform == Chance(seed, client, dispatch, what).uniform
    others = (Chance(seed + 1, client, dispatch, what), Chance(seed, client, dispatch + 1, what))
    assert chance.uniform not in [other.uniform for other in others]


def test_a_normal_draw_is_never_negative() -> None:
    values = drawn(Normal(1.0, 5.0))
    assert min(values) == LEAST_OF_NORMAL


def test_samples_come_in_order_and_from_the_start_again() -> None:
    assert drawn(Samples((5.0, 6.0, 7.0)), 5) == [5.0, 6.0, 7.0, 5.0, 6.0]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e308])
def test_no_distribution_takes_what_is_no_duration(value: float) -> None:
    for make in (
        Constant,
        Exponential,
        lambda v: Normal(v, 1.0),
        lambda v: Lognormal(1.0, v),
        lambda v: Samples((v,)),
    ):
        with pytest.raises(UserCodeError, match="must be from 0 to"):
            make(value)
    with pytest.raises(UserCodeError, match="at least one"):
        Samples(())
