"""The servers of the ADMM algorithms: the minimum of the augmented Lagrangian over the global model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.admm import ICEADMMAggregator, IIADMMAggregator
from appfl_gc.aggregator.base import Cohort
from tests.aggregator.folds import fold, metas

Z, DUAL, RHO = np.array([1.0, -2.0, 4.0]), np.array([0.5, 3.0, -1.0]), np.array([2.0, 0.5, 8.0])


def minimum(of_slope: np.ndarray, curvature: np.ndarray) -> float:
    """Where the sum of the quadratics ``slope w + curvature / 2 w^2`` has no slope."""
    return float(-of_slope.sum() / curvature.sum())


@pytest.mark.parametrize("delta", [False, True])
def test_iiadmm(delta: bool) -> None:
    """The augmented Lagrangian in w: sum of <lambda_k, w - z_k> + rho / 2 ||w - z_k||^2, one rho for all."""
    rho = 2.0
    best = minimum(DUAL - rho * Z, np.full(3, rho))
    messages = Z - DUAL / rho
    current = 0.7
    sent = current - messages if delta else messages
    assert fold(IIADMMAggregator(), [current], sent[:, None].tolist(), delta=delta) == pytest.approx([best])


@pytest.mark.parametrize("delta", [False, True])
def test_iceadmm(delta: bool) -> None:
    """The augmented Lagrangian in w: sum of <lambda_k, z_k - w> + rho_k / 2 ||z_k - w||^2."""
    best = minimum(-DUAL - RHO * Z, RHO)
    messages = Z + DUAL / RHO
    current = 0.7
    sent = current - messages if delta else messages
    known = metas([1, 1, 1], numbers=[{"penalty": rho} for rho in RHO])
    new = fold(ICEADMMAggregator(), [current], sent[:, None].tolist(), known, delta=delta)
    assert new == pytest.approx([best])


@given(
    st.lists(
        st.none() | st.floats() | st.floats(5e-324, 1e-300) | st.floats(1e300, 1.7e308),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_sites_say_of_their_penalties_weights_have_the_sum_one(
    penalties: list[float | None],
) -> None:
    known = metas([1] * len(penalties), numbers=[{} if p is None else {"penalty": p} for p in penalties])
    weights = ICEADMMAggregator().weights(known, [0] * len(known), Cohort(9, 9), None)
    assert math.fsum(weights) == pytest.approx(1)
    assert all(weight >= 0 for weight in weights)


@pytest.mark.parametrize(
    "bad", [{}, {"penalty": 0.0}, {"penalty": -1.0}, {"penalty": math.nan}, {"penalty": math.inf}]
)
def test_a_penalty_that_is_none_weighs_as_the_others_on_average(bad: dict[str, float]) -> None:
    known = metas([1, 1, 1], numbers=[{"penalty": 1.0}, bad, {"penalty": 3.0}])
    weights = ICEADMMAggregator().weights(known, [0, 0, 0], Cohort(3, 3), None)
    assert weights == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    alone = ICEADMMAggregator().weights(metas([1, 1], numbers=[bad, bad]), [0, 0], Cohort(2, 2), None)
    assert alone == [0.5, 0.5]


def test_buffers_are_averaged_equally() -> None:
    known = metas([1, 1], numbers=[{"penalty": 1.0}, {"penalty": 3.0}])
    assert fold(ICEADMMAggregator(), [0.0], [[2.0], [4.0]], known, trained=False) == [3.0]
    counters = fold(ICEADMMAggregator(), [0], [[2], [4]], known, dtype=torch.int64)
    assert counters == [3]
