"""Arguments of aggregators as users write them, checked."""

from __future__ import annotations

import math
from typing import Any

from appfl_gc.protocol.errors import UserCodeError


def number(
    key: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a number.

    Args:
        key: its name in the configuration.
        value: what stands there.
        above, least, below: the range: greater than, at least, less than.

    Raises:
        UserCodeError: if it is no finite number of that range.
    """
    wanted = [
        f"{word} {bound:g}"
        for word, bound in (("above", above), ("at least", least), ("below", below))
        if bound is not None
    ]
    good = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (above is None or value > above)
        and (least is None or value >= least)
        and (below is None or value < below)
    )
    if not good:
        raise UserCodeError(
            f"{key} is {value!r}; a number {' and '.join(wanted)} is expected.".replace("  ", " ")
        )
    return float(value)


def whole_number(key: str, value: Any, *, least: int) -> int:
    """``value`` as a whole number; raises ``UserCodeError`` if it is none or less than ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserCodeError(f"{key} is {value!r}; a whole number from {least} is expected.")
    return value
