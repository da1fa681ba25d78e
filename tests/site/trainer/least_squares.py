"""Clients with least-squares problems in double precision, whose gradients and optimum have closed forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from appfl_gc.site.trainer.run import TrainOutcome, TrainTask, run_trainer

Vector = NDArray[np.float64]
SIZE = 3


@dataclass(frozen=True)
class Client:
    """One client's data: the loss at v is the mean of (a v - b)^2 over the rows of a [n, SIZE] and b [n]."""

    a: Vector
    b: Vector

    def gradient(self, v: Vector) -> Vector:
        """Of the loss at ``v``."""
        result: Vector = 2.0 / len(self.b) * self.a.T @ (self.a @ v - self.b)
        return result

    def task(self, configs: Mapping[str, Any], received: Vector, **parts: Any) -> TrainTask:
        """A task in which each step sees all the data."""
        model = nn.Linear(SIZE, 1, bias=False, dtype=torch.float64)
        plain = {"mode": "step", "train_batch_size": len(self.b), "train_data_shuffle": False}
        data = TensorDataset(torch.tensor(self.a), torch.tensor(self.b)[:, None])
        return TrainTask(
            model, data, data, {**plain, **configs}, {"weight": torch.tensor(received)[None]},
            loss_fn=nn.MSELoss(), **parts,
        )  # fmt: skip


def make_clients(count: int, rows: int = 8) -> list[Client]:
    """Clients whose optima lie far from each other's."""
    draw = np.random.default_rng(5)
    return [Client(draw.normal(size=(rows, SIZE)), draw.normal(size=rows) + 3 * k) for k in range(count)]


def optimum(clients: Sequence[Client]) -> Vector:
    """Where the sum of the clients' losses is least."""
    squares = sum(client.a.T @ client.a / len(client.b) for client in clients)
    result: Vector = np.linalg.solve(
        squares, sum(client.a.T @ client.b / len(client.b) for client in clients)
    )
    return result


def sent(outcome: TrainOutcome) -> Vector:
    """The weight that a client sent."""
    result: Vector = outcome.state["weight"].numpy().ravel().copy()
    return result


def run(client: Client, configs: Mapping[str, Any], received: Vector, **parts: Any) -> TrainOutcome:
    """One task of ``client``."""
    return run_trainer(client.task(configs, received, **parts))
