"""Counting the optimiser steps that really run, whoever takes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


@dataclass
class StepCount:
    """How many steps the optimisers of ``torch.optim`` have taken."""

    steps: int = 0


@contextlib.contextmanager
def counted_steps() -> Iterator[StepCount]:
    """Count the steps of every optimiser inside."""
    count = StepCount()

    def stepped(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        count.steps += 1

    hook = register_optimizer_step_post_hook(stepped)
    try:
        yield count
    finally:
        hook.remove()
