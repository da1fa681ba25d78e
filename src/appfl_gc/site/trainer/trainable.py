"""The parameters that training changes, beside the received tensors that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from appfl_gc.site.trainer.base import Parameters


@dataclass(frozen=True)
class Trainable:
    """One parameter that is trained; a shared one appears once, under its first name.

    Attributes:
        name: in the model's ``state_dict``.
        parameter: the model's own tensor, on the device.
        received: its value in the received model, on the same device. It must not be changed.
    """

    name: str
    parameter: nn.Parameter
    received: torch.Tensor


def trainable(model: nn.Module, received: Parameters) -> list[Trainable]:
    """The parameters of ``model`` that require gradients, in its order."""
    return [
        Trainable(name, parameter, received[name].detach().to(parameter.device, parameter.dtype))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
