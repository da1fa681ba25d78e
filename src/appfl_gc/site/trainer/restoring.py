"""A model and an optimiser put back to what they were in the middle of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.checkpoints import CheckpointUnfitError
from appfl_gc.site.trainer.base import load_state


def model_state(model: nn.Module) -> dict[str, Any]:
    """The tensors of ``model``, also those that its ``state_dict`` leaves out; they share its memory."""
    state = dict(model.state_dict())
    left_out = {name: buffer for name, buffer in model.named_buffers() if name not in state}
    return {"state": state, "left_out": left_out}


def restore_model(model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Copy what ``model_state`` gave into ``model``; raises ``CheckpointUnfitError`` before anything is changed."""
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved["left_out"]}
    if any(
        name not in buffers or buffers[name].shape != tensor.shape
        for name, tensor in saved["left_out"].items()
    ):
        raise CheckpointUnfitError("The model has other buffers than before.")
    try:
        load_state(model, saved["state"])
    except UserCodeError as error:
        raise CheckpointUnfitError("The model has other tensors than before.") from error
    with torch.no_grad():
        for name, tensor in saved["left_out"].items():
            buffers[name].copy_(tensor)


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Put what ``optimizer.state_dict()`` gave back, without a change of dtype or device, which changes bits.

    Raises:
        CheckpointUnfitError: it has other parameters; nothing is changed.
    """
    groups = optimizer.param_groups
    sizes = [len(group["params"]) for group in groups]
    if sizes != [len(group["params"]) for group in saved["param_groups"]]:
        raise CheckpointUnfitError("The optimiser has other parameters than before.")
    parameters = [parameter for group in groups for parameter in group["params"]]
    for group, before in zip(groups, saved["param_groups"], strict=True):
        group.update({name: value for name, value in before.items() if name != "params"})
    optimizer.state.clear()
    for key, values in saved["state"].items():
        optimizer.state[parameters[key] if isinstance(key, int) else key] = values
