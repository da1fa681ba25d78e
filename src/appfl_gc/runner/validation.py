"""Validation of the global model at the server, on the data of ``server_configs.val_data_configs``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from appfl_gc.payload import model_file
from appfl_gc.site.building import evaluate
from appfl_gc.site.trainer.base import load_state


@dataclass(frozen=True)
class ServerValidation:
    """Evaluates global models.

    Attributes:
        model: an object of the model's class; its tensors are overwritten.
        loss: ``loss(output, target)``.
        metric: ``metric(y_true, y_pred)``, or None.
        dataset: the server's test data.
        device: where to evaluate.
        loader: ``batch_size``, ``shuffle`` and ``num_workers`` of the data loader.
    """

    model: nn.Module
    loss: Any
    metric: Any
    dataset: Any
    device: str
    loader: Mapping[str, Any]

    def evaluate(self, path: Path) -> dict[str, float]:
        """``server_val_loss`` and ``server_val_<metric>`` of the model file ``path``."""
        load_state(self.model, model_file.open(path))
        values = evaluate(self.model, self.loss, self.metric, self.dataset, device=self.device, **self.loader)
        return {f"server_{name}": value for name, value in values.items()}
