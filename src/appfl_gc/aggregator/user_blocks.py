"""A user's aggregator class that folds block by block: checks what it answers, so that a mistake is told as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import Meaning
from appfl_gc.site.user_errors import user_errors


class UserBlockAggregator:
    """An ``Aggregator`` made of a user's object with ``weights`` and ``reduce``.

    Args:
        instance: an object of the user's class.
    """

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.name = type(instance).__name__

    def weights(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> list[float]:
        """See ``Aggregator.weights``. A list, tuple, array or tensor of numbers is taken.

        Raises:
            UserCodeError: if the class fails, or answers with something else than a finite number per update.
        """
        with user_errors(f"{self.name}.weights failed"):
            answer = self.instance.weights(metas, staleness)
            weights = _finite_numbers(answer)
            if weights is None or len(weights) != len(metas):
                shown = " ".join(repr(answer).split())
                raise UserCodeError(
                    f"{self.name}.weights returned {shown:.200}; expected {len(metas)} finite numbers.",
                    "Return a list with one number for each update, in the order of metas.",
                )
            return weights

    def reduce(
        self, global_block: torch.Tensor, updates: torch.Tensor, weights: Sequence[float], meaning: Meaning
    ) -> torch.Tensor:
        """See ``Aggregator.reduce``.

        Raises:
            UserCodeError: if the class fails, or answers with something else than a tensor of the block's shape
                and dtype.
        """
        with user_errors(f"{self.name}.reduce failed"), torch.no_grad():
            answer = self.instance.reduce(global_block, updates, weights, meaning)
            found = _description(answer)
        if found != _description(global_block):
            raise UserCodeError(
                f"{self.name}.reduce returned {found}; expected {_description(global_block)}.",
                "Return the block's new values, such as new.to(global_block.dtype).",
            )
        block: torch.Tensor = answer
        return block


def _finite_numbers(answer: Any) -> list[float] | None:
    """``answer`` as numbers; None if it is something else."""
    if isinstance(answer, torch.Tensor | np.ndarray):
        answer = answer.tolist()
    if not isinstance(answer, Sequence):
        return None
    items = [item.item() if isinstance(item, torch.Tensor) and item.numel() == 1 else item for item in answer]
    if not all(isinstance(item, Real) for item in items):
        return None
    try:
        numbers = [float(item) for item in items]
    except OverflowError:
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def _description(answer: Any) -> str:
    if not isinstance(answer, torch.Tensor):
        return f"{type(answer).__name__}, not a tensor"
    kind = "" if answer.layout is torch.strided else f"{answer.layout} "
    place = " on the device meta, without values" if answer.device.type == "meta" else ""
    return f"{kind}{answer.dtype} of shape {list(answer.shape)}{place}"
