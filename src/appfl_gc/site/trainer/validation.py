"""Loss and metric of a model on a dataset, for trainers and for the server's validation alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.base import LossFn, Metric
from appfl_gc.site.trainer.batches import batch_length, split_batch, to_device


def metric_name(metric: Metric) -> str:
    """What a metric is called in results: its function's name, ``metric`` where it has none of its own."""
    name = getattr(metric, "__name__", type(metric).__name__)
    return name if name.isidentifier() and name != "loss" else "metric"


def validate(
    forward: Callable[[Any], Any],
    model: nn.Module,
    loss_fn: LossFn | None,
    metric: Metric | None,
    loader: DataLoader[Any],
    device: torch.device,
    prefix: str = "val_",
) -> dict[str, float]:
    """``{prefix}loss`` (mean over samples) and ``{prefix}<metric>`` of a model in evaluation mode.

    Args:
        forward: what computes the outputs: the model, or a parallel wrapper of it.
        model: the model; its mode is restored.
        loss_fn: None leaves the loss out.
        metric: gets all targets and all outputs, concatenated along the first dimension; None leaves it out.
        loader: pairs of inputs and targets, at least one.
        device: where the model is.
        prefix: begins the names of the result.

    Raises:
        UserCodeError: the loader gives no batch or no pairs, or the metric's result is not a number.
    """
    training = model.training
    model.eval()
    total, count = 0.0, 0
    targets: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    try:
        with torch.no_grad():
            for batch in loader:
                x, y = to_device(split_batch(batch), device)
                output = forward(x)
                size = batch_length(y, x)
                count += size
                if loss_fn is not None:
                    total += float(loss_fn(output, y)) * size
                if metric is not None:
                    targets.append(_array(y, "targets"))
                    outputs.append(_array(output, "outputs"))
    finally:
        model.train(training)
    if count == 0:
        raise UserCodeError(
            "The validation dataset is empty.", "Return at least one sample, or None for no validation."
        )
    result = {} if loss_fn is None else {f"{prefix}loss": total / count}
    if metric is not None:
        result[f"{prefix}{metric_name(metric)}"] = _score(metric, targets, outputs)
    return result


def _array(value: Any, what: str) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        return np.atleast_1d((value.float() if value.dtype == torch.bfloat16 else value).numpy())
    if isinstance(value, np.ndarray | list | tuple | int | float):
        return np.atleast_1d(np.asarray(value))
    raise UserCodeError(
        f"The metric needs {what} that are tensors; the model or dataset gives {type(value).__name__}.",
        "Leave the metric out, or write a trainer and name it with trainer_path.",
    )


def _score(metric: Metric, targets: list[np.ndarray], outputs: list[np.ndarray]) -> float:
    value = metric(np.concatenate(targets), np.concatenate(outputs))
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserCodeError(
            f"The metric {metric_name(metric)} returned {type(value).__name__}; expected one number.",
            "Let it return a float.",
        ) from None
