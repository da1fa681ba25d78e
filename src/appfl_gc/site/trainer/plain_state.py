"""States of random generators in values that a checkpoint may hold."""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(state: Any) -> Any:
    """``state`` with NumPy's arrays and numbers as lists and numbers, in dicts, lists and tuples to any depth."""
    if isinstance(state, np.ndarray):
        return state.tolist()
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(plain(value) for value in state)
    return state
