"""How many steps a task has, over which batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from appfl_gc.site.trainer.run import run_trainer
from tests.site.trainer.samples import PLAIN, Recorder, numbered, same


def test_step_mode_does_exactly_the_steps_over_as_many_passes_as_they_take(make_task: Any) -> None:
    task = make_task(
        {**PLAIN, "num_local_steps": 5, "train_batch_size": 4},
        model=Recorder(), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    outcome = run_trainer(task)
    assert outcome.steps == 5
    assert outcome.sample_size == 10
    assert [len(batch) for batch in Recorder.seen] == [4, 4, 2, 4, 4]


def test_epoch_mode_passes_over_the_data(make_task: Any) -> None:
    task = make_task(
        {**PLAIN, "mode": "epoch", "num_local_epochs": 2, "train_batch_size": 4},
        model=Recorder(), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    assert run_trainer(task).steps == 6
    assert [len(batch) for batch in Recorder.seen] == [4, 4, 2] * 2


def test_drop_last_leaves_the_short_batch_out(make_task: Any) -> None:
    task = make_task(
        {**PLAIN, "mode": "epoch", "num_local_epochs": 1, "train_batch_size": 4, "train_drop_last": True},
        model=Recorder(), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    assert run_trainer(task).steps == 2


def test_a_dataset_smaller_than_a_batch_gives_steps_of_all_of_it(make_task: Any) -> None:
    task = make_task(
        {**PLAIN, "num_local_steps": 3, "train_batch_size": 64},
        model=Recorder(), train_dataset=numbered(5), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    assert run_trainer(task).steps == 3
    assert [len(batch) for batch in Recorder.seen] == [5, 5, 5]


def test_shuffle_gives_every_sample_once_an_epoch_in_an_order_of_its_own(make_task: Any) -> None:
    task = make_task(
        {**PLAIN, "mode": "epoch", "num_local_epochs": 2, "train_data_shuffle": True},
        model=Recorder(), train_dataset=numbered(32), loss_fn=nn.MSELoss(), metric=None,
    )  # fmt: skip
    run_trainer(task)
    order = torch.cat(Recorder.seen).int().tolist()
    first, second = order[:32], order[32:]
    assert sorted(first) == sorted(second) == list(range(32))
    assert first != second
    assert first != list(range(32))


def test_the_scheduler_sets_steps_and_learning_rate_of_one_call(make_task: Any) -> None:
    for configs in ({}, {"mode": "epoch", "num_local_epochs": 3}):
        assert run_trainer(make_task(configs, args={"local_steps": 2})).steps == 2
    fast = run_trainer(make_task({"optim": "SGD"}, args={"learning_rate": 0.5}))
    configured = run_trainer(make_task({"optim": "SGD", "optim_args": {"lr": 0.5}}))
    slow = run_trainer(make_task({"optim": "SGD"}))
    assert same(fast, configured)
    assert not same(fast, slow)
