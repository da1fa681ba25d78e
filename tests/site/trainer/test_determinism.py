"""The same seed gives the same bits, and nothing outside the task changes."""

from __future__ import annotations

import copy
import logging
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from appfl_gc.site.trainer.run import TrainOutcome, run_trainer
from tests.site.trainer.samples import PLAIN, RandomDataset, Recorder, numbered, same


def test_the_same_seed_gives_the_same_bits_and_another_does_not(make_task: Any) -> None:
    first = run_trainer(make_task())
    torch.rand(17)
    assert same(first, run_trainer(make_task()))
    assert not same(first, run_trainer(make_task(seed=12)))


def test_the_order_of_the_samples_follows_from_the_seed(make_task: Any) -> None:
    def order(seed: int) -> list[int]:
        configs = {**PLAIN, "train_data_shuffle": True, "num_local_steps": 4}
        parts = {
            "model": Recorder(),
            "train_dataset": numbered(32),
            "loss_fn": nn.MSELoss(),
            "metric": None,
        }
        run_trainer(make_task(configs, seed=seed, **parts))
        numbers: list[int] = torch.cat(Recorder.seen).int().tolist()
        return numbers

    assert order(1) == order(1) != order(2)


def test_a_model_is_trained_in_training_mode_however_it_comes(make_task: Any) -> None:
    task = make_task()
    task.model.eval()
    assert same(run_trainer(task), run_trainer(make_task()))


def test_the_number_of_loader_workers_changes_no_bits(make_task: Any) -> None:
    assert same(run_trainer(make_task()), run_trainer(make_task({"num_workers": 2})))


@pytest.mark.parametrize("workers", [0, 2])
def test_random_samples_follow_from_the_seed(make_task: Any, workers: int) -> None:
    def run(seed: int) -> TrainOutcome:
        random.seed()
        np.random.seed()
        return run_trainer(make_task({"num_workers": workers}, train_dataset=RandomDataset(), seed=seed))

    assert same(run(1), run(1))
    assert not same(run(1), run(2))


def test_the_optimiser_starts_anew_in_each_task(make_task: Any) -> None:
    task = make_task()
    first = {name: tensor.clone() for name, tensor in run_trainer(task).state.items()}
    second = run_trainer(task)
    assert all(torch.equal(first[name], second.state[name]) for name in first)


def test_nothing_global_changes(make_task: Any) -> None:
    def state() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # type: ignore[index, call-overload]
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.are_deterministic_algorithms_enabled(),
            list(logging.getLogger().handlers),
            logging.getLogger().level,
        ]

    def rude(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_default_dtype(torch.float64)
        return nn.functional.cross_entropy(output, target)

    task = make_task(loss_fn=rude)
    before = state()
    run_trainer(task)
    assert state() == before


def test_received_tensors_and_configuration_are_not_changed(make_task: Any) -> None:
    task = make_task({"send_gradient": True}, args={"learning_rate": 0.5})
    received = {name: tensor.clone() for name, tensor in task.received.items()}
    configs = copy.deepcopy(dict(task.train_configs))
    run_trainer(task)
    assert all(torch.equal(task.received[name], received[name]) for name in received)
    assert task.train_configs == configs
