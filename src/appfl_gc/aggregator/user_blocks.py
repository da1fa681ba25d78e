"""A user's aggregator class that folds block by block: checks what it answers, so that a mistake is told as one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.site.user_errors import user_errors


class UserBlockAggregator(Aggregator):
    """An ``Aggregator`` made of a user's object.

    Args:
        instance: an object of the user's class, either with ``weights(metas, staleness)`` and
            ``reduce(global_block, updates, weights, meaning)``, or derived from one of this package's aggregators.
    """

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.name = type(instance).__name__
        self._derived = isinstance(instance, Aggregator)
        if self._derived:
            self.state, self.looks, self.splits = instance.state, instance.looks, instance.splits

    def look(self, block: Block) -> Seen:
        """See ``Aggregator.look``."""
        with user_errors(f"{self.name}.look failed"), torch.no_grad():
            seen: Seen = self.instance.look(block)
            return seen

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """See ``Aggregator.weights``. A list, tuple, array or tensor of numbers is taken.

        Raises:
            UserCodeError: if the class fails, or answers with something else than a finite number per update.
        """
        with user_errors(f"{self.name}.weights failed"):
            more = (cohort, seen) if self._derived else ()
            answer = self.instance.weights(metas, staleness, *more)
            weights = _finite_numbers(answer)
            if weights is None or len(weights) != len(metas):
                shown = " ".join(repr(answer).split())
                raise UserCodeError(
                    f"{self.name}.weights returned {shown:.200}; expected {len(metas)} finite numbers.",
                    "Return a list with one number for each update, in the order of metas.",
                )
            return weights

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``.

        Raises:
            UserCodeError: if the class fails, or answers with something else than a tensor of the block's shape
                and dtype.
        """
        state: Any = NO_ROWS
        with user_errors(f"{self.name}.reduce failed"), torch.no_grad():
            if self._derived:
                answer, state = self.instance.reduce(block, weights)
            else:
                answer = self.instance.reduce(block.current, block.updates, weights, block.meaning)
            found = _description(answer)
        expected = _description(block.current)
        if found != expected:
            raise UserCodeError(
                f"{self.name}.reduce returned {found}; expected {expected}.",
                "Return the block's new values, such as new.to(global_block.dtype).",
            )
        new: torch.Tensor = answer
        return new, state


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
