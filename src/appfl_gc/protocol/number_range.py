"""Which numbers an argument may be, and in words."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError


@dataclass(frozen=True)
class NumberRange:
    """Numbers between bounds; a number that a configuration holds is none of them unless it is an int or a float.

    Attributes:
        above, at_least: the number is greater than the one and not less than the other.
        below, at_most: likewise upwards.
        whole: only whole numbers.
        finite: not infinite either.
    """

    above: float = -math.inf
    at_least: float = -math.inf
    below: float = math.inf
    at_most: float = math.inf
    whole: bool = False
    finite: bool = True

    def check(self, name: str, value: object) -> None:
        """Raise ``UserCodeError`` unless ``value``, which the configuration calls ``name``, is one of them."""
        if value not in self:
            raise UserCodeError(f"{name} is {value!r:.100}; expected {self}.")

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if self.finite and not abs(value) <= sys.float_info.max:  # also false for what is no number
            return False
        above = self.above == -math.inf or value > self.above
        below = self.below == math.inf or value < self.below
        return above and below and self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        """As in "expected a number of at least 0 and below 1"."""
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (
                ("above", self.above),
                ("at least", self.at_least),
                ("below", self.below),
                ("at most", self.at_most),
            )
            if math.isfinite(bound)
        ]
        kind, text = "a whole number" if self.whole else "a number", " and ".join(bounds)
        return f"{kind}{' of' * text.startswith('at')} {text}".rstrip()
