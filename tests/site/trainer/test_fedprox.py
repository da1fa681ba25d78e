"""FedProxTrainer: the proximal term is the paper's, and only the received model is its centre."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.run import TrainOutcome, check_trainer, run_trainer
from tests.site.trainer.least_squares import SIZE, make_clients, run, sent

SGD = {"optim": "SGD", "optim_args": {"lr": 0.05}}


def same(a: TrainOutcome, b: TrainOutcome) -> bool:
    return all(torch.equal(a.state[name], b.state[name]) for name in a.state)


def test_its_steps_are_gradient_descent_on_the_papers_objective() -> None:
    client, mu, centre = make_clients(1)[0], 0.7, np.array([1.0, -2.0, 0.5])
    outcome = run(client, {**SGD, "num_local_steps": 5, "mu": mu}, centre, trainer="FedProxTrainer")
    w = centre.copy()
    for _ in range(5):
        w = w - 0.05 * (client.gradient(w) + mu * (w - centre))
    np.testing.assert_allclose(sent(outcome), w, rtol=1e-9)


def test_the_reported_loss_is_of_that_objective() -> None:
    client, mu, centre = make_clients(1)[0], 0.7, np.zeros(SIZE)
    losses, w = [], centre
    for _ in range(3):
        losses.append(np.mean((client.a @ w - client.b) ** 2) + 0.5 * mu * np.sum((w - centre) ** 2))
        w = w - 0.05 * (client.gradient(w) + mu * (w - centre))
    outcome = run(client, {**SGD, "num_local_steps": 3, "mu": mu}, centre, trainer="FedProxTrainer")
    assert outcome.metrics["train_loss"] == pytest.approx(np.mean(losses))


def test_with_many_steps_it_stops_where_pull_and_gradient_are_equal() -> None:
    client, mu, centre = make_clients(1)[0], 2.0, np.ones(SIZE)
    outcome = run(client, {**SGD, "num_local_steps": 600, "mu": mu}, centre, trainer="FedProxTrainer")
    w = sent(outcome)
    np.testing.assert_allclose(client.gradient(w), -mu * (w - centre), atol=1e-8)


def test_mu_of_zero_is_vanilla_and_left_out_it_is_a_hundredth(make_task: Any) -> None:
    vanilla = run_trainer(make_task(trainer="VanillaTrainer"))
    assert same(run_trainer(make_task({"mu": 0}, trainer="FedProxTrainer")), vanilla)
    left_out = run_trainer(make_task(trainer="FedProxTrainer"))
    assert same(left_out, run_trainer(make_task({"mu": 0.01}, trainer="FedProxTrainer")))
    assert not same(left_out, vanilla)


def test_validation_is_of_the_loss_alone(make_task: Any) -> None:
    configs = {"optim_args": {"lr": 0.0}, "do_validation": True, "do_pre_validation": True, "mu": 1000.0}
    metrics = run_trainer(make_task(configs, trainer="FedProxTrainer", model=torch.nn.Linear(4, 3))).metrics
    assert metrics["val_loss"] == metrics["pre_val_loss"]


def test_frozen_parameters_and_buffers_take_no_part(make_task: Any) -> None:
    task = make_task({"mu": 1.0}, trainer="FedProxTrainer")
    task.model.first.weight.requires_grad_(False)
    outcome = run_trainer(task)
    assert torch.equal(outcome.state["first.weight"], task.received["first.weight"])
    assert outcome.state["norm.num_batches_tracked"].item() == 5


def test_the_scheduler_sets_steps_and_learning_rate(make_task: Any) -> None:
    asked = run_trainer(
        make_task({"optim": "SGD"}, trainer="FedProxTrainer", args={"local_steps": 2, "learning_rate": 0.3})
    )
    configured = {"optim": "SGD", "num_local_steps": 2, "optim_args": {"lr": 0.3}}
    assert asked.steps == 2
    assert same(asked, run_trainer(make_task(configured, trainer="FedProxTrainer")))


def test_it_keeps_nothing_between_tasks(make_task: Any) -> None:
    assert run_trainer(make_task(trainer="FedProxTrainer")).client_state is None


@pytest.mark.parametrize("mu", [-0.1, "small", float("inf"), True])
def test_a_wrong_mu_is_named_before_the_first_round_too(make_task: Any, mu: object) -> None:
    task = make_task({"mu": mu}, trainer="FedProxTrainer")
    for attempt in (
        lambda: run_trainer(task),
        lambda: check_trainer("FedProxTrainer", task.model, task.train_configs),
    ):
        with pytest.raises(UserCodeError, match=r"train_configs.mu is .*; expected a number of at least 0"):
            attempt()
