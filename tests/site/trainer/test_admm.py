"""The ADMM trainers against their papers' iterations, written plainly, and against the optimum that they must reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.run import TrainOutcome, check_trainer, run_trainer
from tests.site.trainer.conftest import Net
from tests.site.trainer.least_squares import SIZE, Client, Vector, make_clients, optimum, run, sent

BOTH = ("IIADMMTrainer", "ICEADMMTrainer")


def iiadmm(
    client: Client, w: Vector, z: Vector, dual: Vector, steps: int, rho: float, zeta: float
) -> tuple[Vector, Vector, Vector]:
    """One task of Ryu and Kim's Algorithm 1: z, lambda, and what the server averages."""
    for _ in range(steps):
        z = (rho * w + zeta * z + dual - client.gradient(z)) / (rho + zeta)
    dual = dual + rho * (w - z)
    return z, dual, z - dual / rho


def iceadmm(
    client: Client, w: Vector, z: Vector, dual: Vector, steps: int, rho: float, zeta: float
) -> tuple[Vector, Vector, Vector]:
    """One task of Zhou and Li's Algorithm 2: z, lambda, and what the server averages."""
    for _ in range(steps):
        z = z - (rho * (z - w) + client.gradient(z) + dual) / (zeta + rho)
        dual = dual + rho * (z - w)
    return z, dual, z + dual / rho


PAPER = {"IIADMMTrainer": iiadmm, "ICEADMMTrainer": iceadmm}


def federate(trainer: str, clients: Sequence[Client], rounds: int, configs: dict[str, Any]) -> Vector:
    """The server's model after ``rounds``: the mean of what came, weighted by the penalties."""
    w, states = np.zeros(SIZE), [None] * len(clients)
    for _ in range(rounds):
        outcomes = [
            run(client, configs, w, trainer=trainer, client_state=state)
            for client, state in zip(clients, states, strict=True)
        ]
        states = [_copied(outcome) for outcome in outcomes]  # type: ignore[misc]
        penalties = [outcome.metrics["penalty"] for outcome in outcomes]
        w = np.average([sent(outcome) for outcome in outcomes], axis=0, weights=penalties)
    return w


def _copied(outcome: TrainOutcome) -> dict[str, torch.Tensor]:
    assert outcome.client_state is not None
    return {name: tensor.clone() for name, tensor in outcome.client_state.items()}


@pytest.mark.parametrize("zeta", [0.0, 4.0])
@pytest.mark.parametrize("trainer", BOTH)
def test_rounds_of_several_clients_are_the_papers(trainer: str, zeta: float) -> None:
    clients, rho, steps = make_clients(3), 25.0, 4
    configs = {"num_local_steps": steps, "init_penalty": rho, "init_proximity": zeta}
    w = np.zeros(SIZE)
    mine = [(np.zeros(SIZE), np.zeros(SIZE))] * 3
    for _ in range(6):
        done = [PAPER[trainer](client, w, *mine[k], steps, rho, zeta) for k, client in enumerate(clients)]
        mine = [(z, dual) for z, dual, _ in done]
        w = np.mean([message for _, _, message in done], axis=0)
    np.testing.assert_allclose(federate(trainer, clients, 6, configs), w, rtol=1e-9)


@pytest.mark.parametrize("trainer", BOTH)
def test_clients_with_contrary_data_agree_on_the_best_common_model(trainer: str) -> None:
    clients = make_clients(2)
    configs = {"num_local_steps": 3, "init_penalty": 6.0}
    reached = federate(trainer, clients, 50, configs)
    np.testing.assert_allclose(reached, optimum(clients), atol=1e-4)


@pytest.mark.parametrize("trainer", BOTH)
def test_without_what_a_client_remembers_it_is_another_algorithm(trainer: str) -> None:
    client, configs = make_clients(1)[0], {"num_local_steps": 2, "init_penalty": 12.0}
    first = run(client, configs, np.zeros(SIZE), trainer=trainer)
    w = sent(first) * 0.5
    goes_on = run(client, configs, w, trainer=trainer, client_state=_copied(first))
    anew = run(client, configs, w, trainer=trainer)
    assert np.abs(sent(goes_on) - sent(anew)).max() > 0.005


@pytest.mark.parametrize("trainer", BOTH)
def test_the_residuals_are_of_the_constraint_and_of_the_move(trainer: str) -> None:
    client, rho = make_clients(1)[0], 12.0
    configs = {"num_local_steps": 3, "init_penalty": rho}
    first = run(client, configs, np.zeros(SIZE), trainer=trainer)
    before = _copied(first)
    w = np.ones(SIZE)
    second = run(client, configs, w, trainer=trainer, client_state=before)
    z = _copied(second)["primal.weight"].numpy().ravel()
    moved = z - before["primal.weight"].numpy().ravel()
    assert second.metrics["primal_residual"] == pytest.approx(np.linalg.norm(z - w))
    assert second.metrics["dual_residual"] == pytest.approx(rho * np.linalg.norm(moved))
    assert second.metrics["penalty"] == rho


def test_momentum_of_iiadmm_is_that_of_sgd_and_starts_anew_in_each_task() -> None:
    client, rho, momentum, decay = make_clients(1)[0], 40.0, 0.6, 0.1
    args = {"momentum": momentum, "weight_decay": decay}
    configs = {"num_local_steps": 3, "init_penalty": rho, "optim_args": args}
    z, dual, w, state = np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE), None
    for _ in range(2):
        outcome = run(client, configs, w, trainer="IIADMMTrainer", client_state=state)
        velocity = np.zeros(SIZE)
        for _ in range(3):
            velocity = momentum * velocity + client.gradient(z) + decay * z
            z = w + (dual - velocity) / rho
        dual = dual + rho * (w - z)
        np.testing.assert_allclose(sent(outcome), z - dual / rho, rtol=1e-9)
        w, state = sent(outcome), _copied(outcome)


def test_nesterovs_momentum() -> None:
    client, rho = make_clients(1)[0], 40.0
    args = {"momentum": 0.6, "nesterov": True}
    configs = {"num_local_steps": 2, "init_penalty": rho, "optim_args": args}
    z, velocity = np.zeros(SIZE), np.zeros(SIZE)
    for _ in range(2):
        gradient = client.gradient(z)
        velocity = 0.6 * velocity + gradient
        z = -(gradient + 0.6 * velocity) / rho
    expected = z - (-rho * z) / rho
    outcome = run(client, configs, np.zeros(SIZE), trainer="IIADMMTrainer")
    np.testing.assert_allclose(sent(outcome), expected, rtol=1e-9)


@pytest.mark.parametrize("trainer", BOTH)
def test_a_clipped_gradient_moves_a_client_no_further_than_its_bound(trainer: str) -> None:
    client = make_clients(1)[0]
    configs = {"num_local_steps": 1, "init_penalty": 10.0, "clip_grad": True, "clip_value": 0.5}
    outcome = run(client, configs, np.zeros(SIZE), trainer=trainer)
    assert outcome.metrics["primal_residual"] == pytest.approx(0.5 / 10.0, rel=1e-4)


@pytest.mark.parametrize("trainer", BOTH)
def test_send_gradient_is_received_minus_what_would_be_sent(make_task: Any, trainer: str) -> None:
    values = run_trainer(make_task(trainer=trainer))
    task = make_task({"send_gradient": True}, trainer=trainer)
    deltas = run_trainer(task)
    assert set(deltas.deltas) == {name for name, _ in task.model.named_parameters()}
    for name, tensor in deltas.state.items():
        expected = task.received[name] - values.state[name] if name in deltas.deltas else values.state[name]
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("trainer", BOTH)
def test_frozen_parameters_stay_and_shared_ones_are_one(make_task: Any, trainer: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    model[1].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    task = make_task({"init_penalty": 20.0}, model=model, trainer=trainer)
    outcome = run_trainer(task)
    assert torch.equal(outcome.state["2.bias"], task.received["2.bias"])
    assert torch.equal(outcome.state["0.weight"], outcome.state["1.weight"])
    assert not torch.equal(outcome.state["0.weight"], task.received["0.weight"])
    assert outcome.client_state is not None
    assert "primal.2.bias" not in outcome.client_state
    assert "primal.1.weight" not in outcome.client_state


@pytest.mark.parametrize("trainer", BOTH)
def test_validation_is_of_the_received_model_before_and_of_the_clients_own_after(
    make_task: Any, trainer: str
) -> None:
    configs = {"init_penalty": 10.0, "do_pre_validation": True, "do_validation": True}
    first = run_trainer(make_task(configs, trainer=trainer))
    task = make_task(configs, trainer=trainer, client_state=_copied(first))
    x, y = task.val_dataset.tensors
    received = Net()
    received.load_state_dict(dict(task.received))
    outcome = run_trainer(task)
    own = Net()
    own.load_state_dict({**outcome.state, **_primal(outcome)})
    with torch.no_grad():
        before = nn.functional.cross_entropy(received.eval()(x), y).item()
        after = nn.functional.cross_entropy(own.eval()(x), y).item()
    assert outcome.metrics["pre_val_loss"] == pytest.approx(before)
    assert outcome.metrics["val_loss"] == pytest.approx(after)


def _primal(outcome: TrainOutcome) -> dict[str, torch.Tensor]:
    state = _copied(outcome)
    return {name.removeprefix("primal."): state[name] for name in state if name.startswith("primal.")}


@pytest.mark.parametrize("trainer", BOTH)
def test_the_same_task_gives_the_same_bits_and_leaves_what_it_was_given(make_task: Any, trainer: str) -> None:
    remembered = _copied(run_trainer(make_task(trainer=trainer)))
    kept = {name: tensor.clone() for name, tensor in remembered.items()}
    first = run_trainer(make_task(trainer=trainer, client_state=remembered))
    second = run_trainer(make_task(trainer=trainer, client_state=remembered))
    assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)
    assert all(torch.equal(_copied(first)[name], _copied(second)[name]) for name in kept)
    assert all(torch.equal(remembered[name], kept[name]) for name in kept)


class TestScheduler:
    @pytest.mark.parametrize("trainer", BOTH)
    def test_it_sets_the_steps_and_not_the_learning_rate(self, trainer: str) -> None:
        client, configs = make_clients(1)[0], {"num_local_steps": 9, "init_penalty": 12.0}
        asked = run(
            client, configs, np.zeros(SIZE), trainer=trainer, args={"local_steps": 2, "learning_rate": 9.0}
        )
        configured = run(client, {**configs, "num_local_steps": 2}, np.zeros(SIZE), trainer=trainer)
        assert asked.steps == 2
        np.testing.assert_array_equal(sent(asked), sent(configured))


class TestLog:
    def test_the_first_task_says_what_has_no_effect(
        self, make_task: Any, line_logger: Any, lines: list[str]
    ) -> None:
        configs = {"optim": "SGD", "optim_args": {"lr": 0.1, "momentum": 0.5}}
        outcome = run_trainer(make_task(configs, trainer="ICEADMMTrainer", logger=line_logger))
        (line,) = [line for line in lines if "no effect" in line]
        assert "optim, optim_args.lr, optim_args.momentum" in line
        assert "init_penalty" in line
        lines.clear()
        run_trainer(
            make_task(configs, trainer="ICEADMMTrainer", logger=line_logger, client_state=_copied(outcome))
        )
        assert not any("no effect" in line for line in lines)

    def test_momentum_has_an_effect_on_iiadmm(
        self, make_task: Any, line_logger: Any, lines: list[str]
    ) -> None:
        configs = {"optim": None, "optim_args": {"momentum": 0.5, "weight_decay": 0.1}}
        run_trainer(make_task(configs, trainer="IIADMMTrainer", logger=line_logger))
        assert not any("no effect" in line for line in lines)


@pytest.mark.parametrize("trainer", BOTH)
@pytest.mark.parametrize(
    ("configs", "says"),
    [
        ({"init_penalty": 0}, "train_configs.init_penalty is 0; expected a number above 0"),
        ({"init_penalty": float("inf")}, "train_configs.init_penalty is inf"),
        ({"init_proximity": -1.0}, "train_configs.init_proximity is -1.0; expected a number of at least 0"),
        ({"optim_args": {"weight_decay": -1}}, "train_configs.optim_args.weight_decay is -1"),
        (
            {"residual_balancing": {"res_on": True, "tau": 1.0}},
            "train_configs.residual_balancing.tau is 1.0; expected a number above 1",
        ),
        ({"residual_balancing": {"mu": 0.5}}, "train_configs.residual_balancing.mu is 0.5"),
        ({"residual_balancing": True}, "train_configs.residual_balancing is True; expected keys with values"),
    ],
)
def test_each_wrong_key_is_named_before_the_first_round_too(
    make_task: Any, trainer: str, configs: dict[str, Any], says: str
) -> None:
    task = make_task(configs, trainer=trainer)
    with pytest.raises(UserCodeError) as trained:
        run_trainer(task)
    with pytest.raises(UserCodeError) as checked:
        check_trainer(trainer, task.model, task.train_configs)
    assert says in trained.value.message
    assert says in checked.value.message


def test_momentum_of_one_would_never_end(make_task: Any) -> None:
    with pytest.raises(UserCodeError, match=r"optim_args.momentum is 1; expected a number below 1"):
        run_trainer(make_task({"optim_args": {"momentum": 1}}, trainer="IIADMMTrainer"))


def test_a_state_of_another_model_is_told(make_task: Any) -> None:
    state = {"penalty": torch.tensor(1.0), "primal.first.weight": torch.ones(2, 2)}
    with pytest.raises(UserCodeError, match=r"first\.weight is not in it"):
        run_trainer(make_task(trainer="IIADMMTrainer", client_state=state))


def test_a_model_without_a_trainable_parameter(make_task: Any) -> None:
    task = make_task(trainer="ICEADMMTrainer")
    task.model.requires_grad_(False)
    with pytest.raises(UserCodeError, match="no parameter that can be trained"):
        run_trainer(task)
