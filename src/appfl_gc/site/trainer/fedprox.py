"""Local training that stays near the received model: ``trainer: FedProxTrainer``."""

from __future__ import annotations

from typing import Any

import torch

from appfl_gc.site.trainer.reader import ConfigReader
from appfl_gc.site.trainer.settings import VanillaSettings
from appfl_gc.site.trainer.trainable import Trainable, trainable
from appfl_gc.site.trainer.vanilla import VanillaTrainer

DEFAULT_MU = 0.01


class FedProxTrainer(VanillaTrainer):
    """FedProx (Li et al. 2020, arXiv:1812.06127, Algorithm 2).

    The loss of a batch is F(w) + mu / 2 * ||w - w_received||^2 over the trainable parameters (equation 2), so that
    a client with odd data, or with many steps, does not run away. ``mu`` is at least 0; 0 is
    ``VanillaTrainer``. The reported ``train_loss`` has the second term in it, ``val_loss`` has not.
    """

    _mu: float
    _parts: list[Trainable]

    def check_steps(self) -> None:
        """As ``VanillaTrainer``, and ``mu``."""
        super().check_steps()
        self._proximal_weight()

    def start_steps(self, settings: VanillaSettings) -> torch.optim.Optimizer:
        """As ``VanillaTrainer``; notes where the task began."""
        self._mu = self._proximal_weight()
        self._parts = trainable(self.model, self._took("FedProx needs a centre"))
        return super().start_steps(settings)

    def batch_loss(self, inputs: Any, targets: Any) -> torch.Tensor:
        """The loss of a batch, and the distance to the received model."""
        loss = super().batch_loss(inputs, targets)
        if self._mu == 0.0:
            return loss
        for part in self._parts:
            loss = loss + 0.5 * self._mu * (part.parameter - part.received).square().sum()
        return loss

    def _proximal_weight(self) -> float:
        return ConfigReader(self.train_configs, type(self).__name__).number("mu", DEFAULT_MU, at_least=0.0)
