"""Residual balancing: the penalty follows the residuals, and stays finite whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.site.trainer.admm_settings import LARGEST_CHANGE, AdmmSettings, Balancing
from tests.site.trainer.least_squares import SIZE, make_clients, run, sent

RESIDUAL = st.floats(0.0, allow_nan=False)


def test_the_larger_residual_decides() -> None:
    balancing = Balancing(False, mu=10.0, tau=2.0)
    assert balancing.adjusted(8.0, primal=11.0, dual=1.0) == 16.0
    assert balancing.adjusted(8.0, primal=1.0, dual=11.0) == 4.0
    assert balancing.adjusted(8.0, primal=10.0, dual=1.0) == 8.0
    assert balancing.adjusted(8.0, primal=0.0, dual=0.0) == 8.0


@given(st.lists(st.tuples(RESIDUAL, RESIDUAL), max_size=60), st.floats(1.1, 1e200), st.floats(1e-3, 1e6))
def test_the_penalty_stays_within_its_bounds(
    residuals: list[tuple[float, float]], tau: float, initial: float
) -> None:
    settings = AdmmSettings(initial, balancing=Balancing(False, 1.0, tau))
    penalty = initial
    for primal, dual in residuals:
        penalty = settings.next_penalty(penalty, primal, dual)
        assert initial / LARGEST_CHANGE <= penalty <= initial * LARGEST_CHANGE


@given(RESIDUAL, RESIDUAL)
def test_without_balancing_it_never_changes(primal: float, dual: float) -> None:
    assert AdmmSettings(500.0).next_penalty(500.0, primal, dual) == 500.0


def balanced(**keys: Any) -> dict[str, Any]:
    return {"num_local_steps": 4, "init_penalty": 1000.0, "residual_balancing": {"mu": 1.0, **keys}}


def test_after_a_task_it_changes_once_and_the_next_task_goes_on_from_it() -> None:
    client, zero = make_clients(1)[0], np.zeros(SIZE)
    # Far above the loss's curvature, rho * ||z - z_before|| is larger than ||z - w||: the penalty has to fall.
    first = run(client, balanced(res_on=True), zero, trainer="IIADMMTrainer")
    assert first.metrics["penalty"] == 500.0
    state = {name: tensor.clone() for name, tensor in (first.client_state or {}).items()}
    assert state["penalty"].item() == 500.0
    second = run(client, balanced(res_on=True), zero, trainer="IIADMMTrainer", client_state=state)
    assert second.metrics["penalty"] == 250.0


def test_the_message_is_made_with_the_new_penalty() -> None:
    client = make_clients(1)[0]
    outcome = run(client, balanced(res_on=True), np.zeros(SIZE), trainer="IIADMMTrainer")
    state = outcome.client_state or {}
    expected = state["primal.weight"] - state["dual.weight"] / outcome.metrics["penalty"]
    np.testing.assert_allclose(sent(outcome), expected.numpy().ravel())


@pytest.mark.parametrize("trainer", ["IIADMMTrainer", "ICEADMMTrainer"])
def test_on_every_update_it_changes_with_each_step(trainer: str) -> None:
    client = make_clients(1)[0]
    outcome = run(client, balanced(res_on_every_update=True), np.zeros(SIZE), trainer=trainer)
    assert outcome.metrics["penalty"] == 1000.0 / 2**4
    assert torch.isfinite(torch.tensor(sent(outcome))).all()


def test_off_means_off() -> None:
    client = make_clients(1)[0]
    outcome = run(client, balanced(res_on=False), np.zeros(SIZE), trainer="IIADMMTrainer")
    assert outcome.metrics["penalty"] == 1000.0
