"""How much less an update counts that started from an older version: s(0) = 1, never rising, in (0, 1].

With t the staleness in versions:

* ``constant``: 1
* ``polynomial``: (1 + t)^-a
* ``hinge``: 1 up to t = b, then 1 / (a (t - b) + 1)
* ``harmonic``: 1 / (1 + beta t)
* ``exponential``: exp(-beta t)

The first three are those of Xie, Koyejo and Gupta, Asynchronous Federated Optimization (arXiv:1903.03934); the
other two of Li et al., FedQueue (arXiv:2605.02125).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from appfl_gc.aggregator.arguments import number
from appfl_gc.config.names import STALENESS_ARGUMENTS
from appfl_gc.protocol.errors import UserCodeError

Discount: TypeAlias = Callable[[int], float]
"""From a staleness in versions to the factor of the weight."""

_FORMULAS: dict[str, Callable[..., float]] = {
    "constant": lambda t: 1.0,
    "polynomial": lambda t, a: (1.0 + t) ** -a,
    "hinge": lambda t, a, b: 1.0 if t <= b else 1.0 / (a * (t - b) + 1.0),
    "harmonic": lambda t, beta: 1.0 / (1.0 + beta * t),
    "exponential": lambda t, beta: math.exp(-beta * t),
}
NAMES = tuple(_FORMULAS)


def discount(name: str, kwargs: Mapping[str, Any]) -> Discount:
    """The function called ``name``.

    Args:
        name: ``staleness_fn`` of the configuration, one of ``NAMES``.
        kwargs: ``staleness_fn_kwargs``: numbers from 0. Those of other functions are left alone.

    Raises:
        UserCodeError: if there is no such function, or an argument is missing, wrong or of no function.
    """
    if name not in _FORMULAS:
        raise UserCodeError(f"staleness_fn is {name!r}; there are {', '.join(NAMES)}.")
    wanted, formula = STALENESS_ARGUMENTS[name], _FORMULAS[name]
    known = sorted({key for keys in STALENESS_ARGUMENTS.values() for key in keys})
    for key in kwargs:
        if key not in known:
            raise UserCodeError(f"staleness_fn_kwargs has {key!r}; known are {', '.join(known)}.")
    missing = [key for key in wanted if kwargs.get(key) is None]
    if missing:
        example = ", ".join(f"{key}: 0.5" for key in wanted)
        raise UserCodeError(
            f"staleness_fn {name} needs {' and '.join(missing)}, which staleness_fn_kwargs lacks.",
            f"Write, for instance, staleness_fn_kwargs: {{{example}}}.",
        )
    arguments = {key: number(f"staleness_fn_kwargs.{key}", kwargs[key], at_least=0) for key in wanted}

    def discounted(staleness: int) -> float:
        # A very old update keeps a weight above 0, so that a fold of such updates only still has a mean.
        return max(formula(max(0, staleness), **arguments), sys.float_info.min)

    return discounted
