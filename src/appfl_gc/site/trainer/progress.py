"""How far a task of ``VanillaTrainer`` has come, and what it has measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from appfl_gc.site.trainer.base import TrainRow


class Mean:
    """Mean loss over steps, weighted by batch size; summed on the device, so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sum = torch.zeros((), dtype=dtype, device=device)
        self._samples = 0
        self.steps = 0

    def add(self, loss: torch.Tensor, samples: int) -> None:
        """Include the loss of one step, which is the mean of ``samples`` samples."""
        self._sum += loss.detach().reshape(()) * samples
        self._samples += samples
        self.steps += 1

    def include(self, other: Mean) -> None:
        """Include the steps of another mean."""
        self._sum += other._sum
        self._samples += other._samples
        self.steps += other.steps

    @property
    def value(self) -> float:
        """The mean."""
        return float(self._sum) / max(self._samples, 1)

    def state(self) -> tuple[torch.Tensor, int, int]:
        """What a checkpoint holds."""
        return self._sum, self._samples, self.steps

    def go_on(self, state: tuple[torch.Tensor, int, int]) -> None:
        """Take what ``state`` gave."""
        self._sum, self._samples, self.steps = state


class Progress:
    """The place in a task.

    Attributes:
        epoch: the current one, 1, 2 ...; in step mode the whole task is one.
        seconds: what the current epoch has taken so far, in this and in earlier attempts.
        mean: of the current epoch; ``total`` of those before it.
        rows: of the epochs before it, and of the validation before training.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.epoch = 1
        self.seconds = 0.0
        self.mean = Mean(device)
        self.total = Mean(device)
        self.rows: list[TrainRow] = []

    @property
    def steps(self) -> int:
        """Steps of the task so far."""
        return self.total.steps + self.mean.steps

    def end_epoch(self) -> None:
        """The current epoch is over, and has its row."""
        self.total.include(self.mean)
        self.mean, self.seconds = Mean(self._device), 0.0
        self.epoch += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "mean": self.mean.state(),
            "total": self.total.state(),
            "rows": [asdict(row) for row in self.rows],
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take what ``state`` gave in an earlier attempt."""
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.mean.go_on(state["mean"])
        self.total.go_on(state["total"])
        self.rows = [replace(TrainRow(**row), earlier=True) for row in state["rows"]]
