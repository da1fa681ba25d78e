"""VanillaTrainer against the same computation written plainly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from appfl_gc.site.trainer.run import run_trainer
from tests.site.trainer.samples import PLAIN, numbered


def test_one_plain_sgd_step_is_the_textbooks(make_task: Any) -> None:
    task = make_task(
        {**PLAIN, "num_local_steps": 1, "train_batch_size": 10, "optim_args": {"lr": 0.01}},
        model=nn.Linear(1, 1), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    x, y = task.train_dataset.tensors
    weight, bias = task.received["weight"], task.received["bias"]
    error = x @ weight.T + bias - y
    outcome = run_trainer(task)
    assert outcome.metrics["train_loss"] == pytest.approx(float((error**2).mean()))
    assert outcome.state["weight"].item() == pytest.approx(float(weight - 0.01 * (2 * error * x).mean()))
    assert outcome.state["bias"].item() == pytest.approx(float(bias - 0.01 * (2 * error).mean()))


def test_train_loss_is_the_mean_over_the_steps_that_were_run(make_task: Any) -> None:
    # A rate of zero keeps the model: every step's loss can be computed from the received one.
    configs = {**PLAIN, "optim_args": {"lr": 0.0}, "num_local_steps": 7, "train_batch_size": 4}
    task = make_task(
        configs, model=nn.Linear(1, 1), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None
    )
    batches = [(0, 4), (4, 8), (8, 10), (0, 4), (4, 8), (8, 10), (0, 4)]
    x, y = task.train_dataset.tensors
    with torch.no_grad():
        squares = (x @ task.received["weight"].T + task.received["bias"] - y) ** 2
    expected = torch.cat([squares[start:end] for start, end in batches]).mean().item()
    assert run_trainer(task).metrics["train_loss"] == pytest.approx(expected)


@pytest.mark.parametrize("norm_type", [1, 2, float("inf")])
def test_clipping_bounds_the_gradients_norm_of_the_configured_type(make_task: Any, norm_type: float) -> None:
    configs = {
        **PLAIN, "optim_args": {"lr": 1.0}, "num_local_steps": 1, "train_batch_size": 10,
        "clip_grad": True, "clip_value": 0.25, "clip_norm": norm_type, "send_gradient": True,
    }  # fmt: skip
    task = make_task(
        configs, model=nn.Linear(1, 1), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None
    )
    step = torch.cat([tensor.flatten() for tensor in run_trainer(task).state.values()])
    assert torch.linalg.vector_norm(step, norm_type).item() == pytest.approx(0.25, rel=1e-4)


def test_send_gradient_is_received_minus_new_for_parameters_and_values_for_buffers(make_task: Any) -> None:
    values = run_trainer(make_task())
    task = make_task({"send_gradient": True})
    deltas = run_trainer(task)
    assert list(deltas.state) == list(values.state) == list(task.received)
    parameters = {name for name, _ in task.model.named_parameters()}
    assert set(deltas.deltas) == parameters
    assert values.deltas == ()
    for name, tensor in deltas.state.items():
        expected = task.received[name] - values.state[name] if name in parameters else values.state[name]
        assert torch.equal(tensor, expected), name
    assert deltas.state["norm.num_batches_tracked"].item() == 5


def test_a_shared_parameter_is_a_difference_under_both_names(make_task: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    model[1].weight = model[0].weight
    outcome = run_trainer(make_task({"send_gradient": True}, model=model))
    assert {"0.weight", "1.weight"} <= set(outcome.deltas)
    assert torch.equal(outcome.state["0.weight"], outcome.state["1.weight"])


def test_frozen_parameters_stay(make_task: Any) -> None:
    task = make_task()
    task.model.first.weight.requires_grad_(False)
    outcome = run_trainer(task)
    assert torch.equal(outcome.state["first.weight"], task.received["first.weight"])
    assert not torch.equal(outcome.state["second.weight"], task.received["second.weight"])


def test_an_optimiser_that_evaluates_the_loss_several_times(make_task: Any) -> None:
    configs = {"optim": "LBFGS", "optim_args": {"lr": 0.5}, "num_local_steps": 4, "train_batch_size": 10}
    task = make_task(
        {**configs, "do_pre_validation": True, "do_validation": True},
        model=nn.Linear(1, 1), train_dataset=numbered(10), val_dataset=numbered(10),
        loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    outcome = run_trainer(task)
    assert outcome.steps == 4
    assert outcome.metrics["val_loss"] < 0.1 * outcome.metrics["pre_val_loss"]


def test_it_learns(make_task: Any) -> None:
    configs = {
        "num_local_steps": 150,
        "optim_args": {"lr": 0.02},
        "do_validation": True,
        "do_pre_validation": True,
    }
    metrics = run_trainer(make_task(configs)).metrics
    assert metrics["val_accuracy"] > metrics["pre_val_accuracy"] + 0.2
