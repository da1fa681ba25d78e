"""The keyword arguments of a scheduler as a checked dataclass."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from appfl_gc.protocol.errors import UserCodeError

Settings = TypeVar("Settings")


def number(
    default: Any = dataclasses.MISSING,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> Any:
    """A field that holds a finite number within these bounds; required without ``default``."""
    return _field(default, whole=False, above=above, at_least=at_least, at_most=at_most)


def whole_number(default: Any = dataclasses.MISSING, *, at_least: int) -> Any:
    """A field that holds a whole number; required without ``default``."""
    return _field(default, whole=True, above=-math.inf, at_least=at_least, at_most=math.inf)


def _field(default: Any, **rule: Any) -> Any:
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=rule)
    return dataclasses.field(default=default, metadata=rule)


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
            check(field.name, given[field.name], **field.metadata)
    return kind(**given)


def check(
    name: str,
    value: Any,
    *,
    whole: bool = False,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> None:
    """Raise ``UserCodeError`` unless ``value`` is such a number."""
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if is_number and abs(value) <= sys.float_info.max and above < value and at_least <= value <= at_most:
        return
    expected = "a whole number" if whole else "a number"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("more than", above), ("at least", at_least), ("at most", at_most))
        if math.isfinite(bound)
    ]
    if bounds:
        expected += f" of {' and '.join(bounds)}"
    raise UserCodeError(f"{name} is {value!r:.100}; expected {expected}.")


def check_epochs(num_global_epochs: int, what: str) -> None:
    """Raise ``UserCodeError`` unless there is something to do; ``what`` is counted."""
    if num_global_epochs < 1:
        raise UserCodeError(f"num_global_epochs is {num_global_epochs}; at least one {what} is needed.")
