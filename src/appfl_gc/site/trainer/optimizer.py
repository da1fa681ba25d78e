"""The optimiser that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.nearest_name import nearest_name
from appfl_gc.site.user_errors import shown_kwargs


def make_optimizer(model: nn.Module, name: str, args: Mapping[str, Any]) -> torch.optim.Optimizer:
    """A new optimiser over the model's trainable parameters.

    Args:
        model: on the device where it trains.
        name: a class of ``torch.optim``.
        args: its keyword arguments.

    Raises:
        UserCodeError: there is no such optimiser, it does not take ``args``, or nothing can be trained.
    """
    known = {
        key: value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    }
    if name not in known:
        near = nearest_name(name, known)
        raise UserCodeError(
            f"optim: torch.optim has no optimiser {name!r}.",
            f"Did you mean {near}?" if near else f"It has {', '.join(sorted(known))}.",
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserCodeError(
            f"The model {type(model).__name__} has no parameter that can be trained.",
            "Leave requires_grad of at least one parameter True.",
        )
    try:
        optimizer: torch.optim.Optimizer = known[name](parameters, **args)
    except (TypeError, ValueError) as error:
        raise UserCodeError(
            f"optim: torch.optim.{name} can't be made with {shown_kwargs(args)}: {error}.",
            "Correct optim_args in the YAML file.",
        ) from error
    return optimizer
