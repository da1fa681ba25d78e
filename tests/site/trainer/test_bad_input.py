"""Each wrong key is named, with what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.site.trainer.run import run_trainer
from appfl_gc.site.trainer.settings import VanillaSettings
from tests.site.trainer.samples import RandomDataset, failure


@pytest.mark.parametrize(
    ("configs", "says"),
    [
        ({"mode": "steps"}, "train_configs.mode is 'steps'"),
        ({"mode": None}, "train_configs.mode is missing"),
        ({"num_local_steps": None}, "train_configs.num_local_steps is missing"),
        ({"num_local_steps": 0}, "train_configs.num_local_steps is 0"),
        ({"num_local_steps": -1}, "train_configs.num_local_steps is -1"),
        ({"mode": "epoch"}, "train_configs.num_local_epochs is missing"),
        ({"optim": None}, "train_configs.optim is missing"),
        ({"optim": "Adamm"}, "no optimiser 'Adamm'"),
        ({"optim_args": {"momentun": 0.9}}, "momentun=0.9"),
        ({"optim_args": "lr"}, "train_configs.optim_args is 'lr'"),
        ({"train_batch_size": "64"}, "train_configs.train_batch_size is '64'"),
        ({"do_validation": "yes"}, "train_configs.do_validation is 'yes'"),
        ({"clip_grad": True, "clip_value": None}, "train_configs.clip_value is missing"),
        ({"clip_grad": True, "clip_value": -1}, "train_configs.clip_value is -1"),
        ({"device": "cuda:63"}, "cuda:63 is not on this machine; present: cpu"),
        ({"device": "tpu"}, "'tpu' is not a device"),
        ({"train_drop_last": True, "train_batch_size": 64}, "40 samples, fewer than one batch of 64"),
    ],
)
def test_each_wrong_key_is_named(make_task: Any, configs: dict[str, Any], says: str) -> None:
    assert says in failure(make_task(configs)).message


@pytest.mark.parametrize("steps", [0, -2])
def test_steps_below_one(make_task: Any, steps: int) -> None:
    assert f"asked for {steps} local steps" in failure(make_task(args={"local_steps": steps})).message
    with pytest.raises(UserCodeError, match=f"A task of {steps} steps"):
        VanillaSettings(steps=steps, epochs=None, optim="SGD")


def test_secrets_among_the_arguments_of_the_optimiser_are_not_shown(make_task: Any) -> None:
    args = {"more": {"password": "hush"}, "api_token": "hush", "lr": 0.5}
    message = failure(make_task({"optim_args": args})).message
    assert "hush" not in message
    assert "lr=0.5" in message


def test_the_nearest_optimiser_is_proposed(make_task: Any) -> None:
    assert failure(make_task({"optim": "adamw"})).hint == "Did you mean AdamW?"


def test_an_empty_training_set(make_task: Any) -> None:
    assert "training dataset is empty" in failure(make_task(train_dataset=[])).message


def test_no_loss(make_task: Any) -> None:
    error = failure(make_task(loss_fn=None))
    assert "needs a loss" in error.message
    assert "loss_fn_path" in error.hint


def test_a_loss_that_is_no_number(make_task: Any) -> None:
    error = failure(make_task(loss_fn=nn.CrossEntropyLoss(reduction="none")))
    assert "a tensor of shape (8,)" in error.message


def test_a_model_without_a_trainable_parameter(make_task: Any) -> None:
    task = make_task()
    task.model.requires_grad_(False)
    assert "no parameter that can be trained" in failure(task).message


def test_a_received_model_that_does_not_fit_names_the_tensors(make_task: Any) -> None:
    task = make_task()
    received = dict(task.received)
    del received["norm.bias"]
    received["extra"] = torch.ones(1)
    received["first.weight"] = torch.ones(2, 2)
    message = failure(make_task(received=received)).message
    assert "norm.bias is missing" in message
    assert "extra is unknown to the model" in message
    assert "first.weight has shape (2, 2), the model's has (8, 4)" in message


def test_a_trainer_that_is_not_built_yet_and_one_that_is_unknown(make_task: Any) -> None:
    with pytest.raises(NotSupportedError, match="MonaiTrainer is not supported yet"):
        run_trainer(make_task(trainer="MonaiTrainer"))
    assert failure(make_task(trainer="VanilaTrainer")).hint == "Did you mean VanillaTrainer?"


def test_an_error_in_a_loader_worker_names_what_failed(make_task: Any) -> None:
    class Broken(RandomDataset):
        def __getitem__(self, index: int) -> Any:
            raise ValueError(f"sample {index} is torn")

    error = failure(make_task({"num_workers": 1, "train_data_shuffle": False}, train_dataset=Broken()))
    assert "ValueError" in error.message
    assert "sample 0 is torn" in error.message
