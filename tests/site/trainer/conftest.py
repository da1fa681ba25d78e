"""A tiny classification task for the trainers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from appfl_gc.site.trainer.run import TrainTask


class Net(nn.Module):
    """Two layers with dropout and batch normalisation: random numbers and buffers take part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.3)
        self.second = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.dropout(torch.relu(self.norm(self.first(x)))))
        return result


def accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Share of samples whose largest output is the target's."""
    return float((y_true == y_pred.argmax(axis=1)).mean())


def samples(count: int, seed: int) -> TensorDataset:
    """Points whose class is the largest of their first three coordinates."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x[:, :3].argmax(1))


CONFIGS: dict[str, Any] = {
    "trainer": "VanillaTrainer",
    "mode": "step",
    "num_local_steps": 5,
    "optim": "Adam",
    "optim_args": {"lr": 0.01},
    "train_batch_size": 8,
    "val_batch_size": 16,
    "use_dp": False,
    "epsilon": 1,
    "clip_grad": False,
    "clip_value": 1,
    "clip_norm": 1,
}

MakeTask = Callable[..., TrainTask]


@pytest.fixture
def make_task() -> MakeTask:
    """Make a task; keywords of TrainTask replace its parts, ``configs`` adds to its configuration."""

    def make(configs: dict[str, Any] | None = None, **parts: Any) -> TrainTask:
        torch.manual_seed(0)
        model = parts.pop("model", None) or Net()
        received = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        given: dict[str, Any] = {
            "model": model,
            "train_dataset": samples(40, 1),
            "val_dataset": samples(20, 2),
            "train_configs": {**CONFIGS, **(configs or {})},
            "received": received,
            "loss_fn": nn.CrossEntropyLoss(),
            "metric": accuracy,
            "seed": 11,
            "round": 3,
        }
        return TrainTask(**{**given, **parts})

    return make


@pytest.fixture
def lines() -> list[str]:
    """The lines that ``line_logger`` got."""
    return []


@pytest.fixture
def line_logger(lines: list[str]) -> logging.Logger:
    """A logger that belongs to one test."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.Logger("test")
    logger.addHandler(Collect())
    return logger
