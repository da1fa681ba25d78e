"""Arguments of aggregators as users write them, checked."""

from __future__ import annotations

import math
from typing import Any

from appfl_gc.protocol.number_range import NumberRange


def number(
    key: str, value: Any, *, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf
) -> float:
    """``value`` as a number.

    Args:
        key: its name in the configuration.
        value: what stands there.
        above, at_least, below: the range.

    Raises:
        UserCodeError: if it is no finite number of that range.
    """
    NumberRange(above=above, at_least=at_least, below=below).check(key, value)
    return float(value)


def whole_number(key: str, value: Any, *, at_least: int) -> int:
    """``value`` as a whole number; raises ``UserCodeError`` if it is none or less than ``at_least``."""
    NumberRange(at_least=at_least, whole=True).check(key, value)
    return int(value)
