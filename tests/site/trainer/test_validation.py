"""What is measured, on which model, and what the log says of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from appfl_gc.site.trainer.run import run_trainer
from tests.site.trainer.samples import failure, same


@pytest.mark.parametrize(
    ("do_pre", "do_val", "expected"),
    [
        (False, False, {"train_loss"}),
        (True, False, {"train_loss", "pre_val_loss", "pre_val_accuracy"}),
        (False, True, {"train_loss", "val_loss", "val_accuracy"}),
    ],
)
def test_only_what_was_measured_is_reported(
    make_task: Any, do_pre: bool, do_val: bool, expected: set[str]
) -> None:
    outcome = run_trainer(make_task({"do_pre_validation": do_pre, "do_validation": do_val}))
    assert set(outcome.metrics) == expected


def test_before_and_after_are_measured_on_the_right_model(make_task: Any) -> None:
    task = make_task({"do_pre_validation": True, "do_validation": True})
    x, y = task.val_dataset.tensors
    received = copy.deepcopy(task.model).eval()
    metrics = run_trainer(task).metrics
    with torch.no_grad():
        before = nn.functional.cross_entropy(received(x), y).item()
        after = nn.functional.cross_entropy(task.model.eval()(x), y).item()
    assert metrics["pre_val_loss"] == pytest.approx(before)
    assert metrics["val_loss"] == pytest.approx(after)
    assert before != pytest.approx(after)


def test_validation_does_not_change_the_update(make_task: Any) -> None:
    without = run_trainer(make_task())
    validated = run_trainer(make_task({"do_pre_validation": True, "do_validation": True}))
    assert same(without, validated)


def test_without_a_metric_there_is_the_loss(make_task: Any) -> None:
    outcome = run_trainer(make_task({"do_validation": True}, metric=None))
    assert set(outcome.metrics) == {"train_loss", "val_loss"}


@pytest.mark.parametrize("key", ["do_validation", "do_pre_validation"])
@pytest.mark.parametrize("val", [None, TensorDataset(torch.ones(0, 4))])
def test_without_validation_data_it_is_an_error_before_training(make_task: Any, key: str, val: Any) -> None:
    task = make_task({key: True}, val_dataset=val)
    error = failure(task)
    assert f"{key}: True needs validation data" in error.message
    assert f"{key}: False" in error.hint
    assert torch.equal(task.model.first.weight, task.received["first.weight"])


def test_epoch_mode_validates_after_each_epoch(make_task: Any, line_logger: Any, lines: list[str]) -> None:
    configs = {"mode": "epoch", "num_local_epochs": 2, "do_validation": True, "do_pre_validation": True}
    outcome = run_trainer(make_task(configs, logger=line_logger))
    assert [row.epoch for row in outcome.rows] == [0, 1, 2]
    assert [row.steps for row in outcome.rows] == [0, 5, 5]
    assert (
        outcome.metrics["val_loss"]
        == outcome.rows[2].metrics["val_loss"]
        != outcome.rows[1].metrics["val_loss"]
    )
    assert len(lines) == 3
    assert "epoch 2/2" in lines[2]
    assert f"val_accuracy     {outcome.metrics['val_accuracy']:.4f}" in lines[2]
    assert "pre_val" not in lines[2] and "train_loss" not in lines[0]


def test_step_mode_logs_one_row(make_task: Any, line_logger: Any, lines: list[str]) -> None:
    run_trainer(make_task(logger=line_logger))
    assert len(lines) == 1
    assert "5 steps" in lines[0]


def test_the_row_after_training_never_shows_what_was_measured_before_it(
    make_task: Any, line_logger: Any, lines: list[str]
) -> None:
    configs = {"do_pre_validation": True, "do_validation": False}
    outcome = run_trainer(make_task(configs, logger=line_logger))
    before, after = outcome.rows
    assert set(before.metrics) == {"pre_val_loss", "pre_val_accuracy"}
    assert set(after.metrics) == {"train_loss"}
    assert "accuracy" in lines[0] and "accuracy" not in lines[1]


@pytest.mark.parametrize(("interval", "validated"), [(None, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [1, 4])])
def test_validation_before_training_may_skip_rounds(
    make_task: Any, interval: int | None, validated: list[int]
) -> None:
    configs = {"do_pre_validation": True, "pre_validation_interval": interval}
    metrics = {number: run_trainer(make_task(configs, round=number)).metrics for number in range(1, 6)}
    assert [number for number, found in metrics.items() if "pre_val_loss" in found] == validated
