"""The keyword arguments of a scheduler as a checked dataclass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.number_range import NumberRange

_EXPECTED = "expected"

Settings = TypeVar("Settings")


def number(
    default: Any = dataclasses.MISSING,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> Any:
    """A field that holds a finite number within these bounds; required without ``default``."""
    return _field(default, NumberRange(above=above, at_least=at_least, at_most=at_most))


def whole_number(default: Any = dataclasses.MISSING, *, at_least: int) -> Any:
    """A field that holds a whole number; required without ``default``."""
    return _field(default, NumberRange(at_least=at_least, whole=True))


def _field(default: Any, expected: NumberRange) -> Any:
    return dataclasses.field(default=default, metadata={_EXPECTED: expected})


def read(kind: type[Settings], kwargs: Mapping[str, Any], scheduler: str) -> Settings:
    """The settings of ``scheduler`` among ``kwargs``; other keys are left alone, None stands for the default.

    Raises:
        UserCodeError: if a required one is missing, or one is not what its field says.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    given = {f.name: kwargs[f.name] for f in fields if kwargs.get(f.name) is not None}
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in given]
    if missing:
        raise UserCodeError(
            f"{scheduler} needs {' and '.join(missing)}.", "Give them in server_configs.scheduler_kwargs."
        )
    for field in fields:
        if field.name in given:
            field.metadata[_EXPECTED].check(field.name, given[field.name])
    return kind(**given)


def check_epochs(num_global_epochs: int, what: str) -> None:
    """Raise ``UserCodeError`` unless there is something to do; ``what`` is counted."""
    if num_global_epochs < 1:
        raise UserCodeError(f"num_global_epochs is {num_global_epochs}; at least one {what} is needed.")
