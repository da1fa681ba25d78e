"""What the tests of the built-in trainers have in common."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.run import TrainOutcome, TrainTask, run_trainer

PLAIN = {"optim": "SGD", "optim_args": {"lr": 0.001}, "train_data_shuffle": False}
"""Keys for steps that can be followed by hand."""


def same(a: TrainOutcome, b: TrainOutcome) -> bool:
    return a.state.keys() == b.state.keys() and all(
        torch.equal(a.state[name], b.state[name]) for name in a.state
    )


def failure(task: TrainTask) -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        run_trainer(task)
    return caught.value


class Recorder(nn.Module):
    """A linear model that keeps the inputs of its training steps; kept outside the instance, which is copied."""

    seen: ClassVar[list[torch.Tensor]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        type(self).seen = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            type(self).seen.append(x[:, 0].clone())
        result: torch.Tensor = self.layer(x)
        return result


def numbered(count: int) -> TensorDataset:
    x = torch.arange(float(count)).reshape(count, 1)
    return TensorDataset(x, 2 * x + 1)


class RandomDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples with random noise from all three generators, as augmentation has it."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(4) + random.random() + float(np.random.rand())
        return noise + index, torch.tensor(index % 3)
