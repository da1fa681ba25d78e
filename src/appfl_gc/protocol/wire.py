"""The wire version, and reading JSON that somebody else wrote without trusting it."""

from __future__ import annotations

import json
import math
from typing import TypeAlias

WIRE_VERSION = 1

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 32
MAX_TEXT = 20_000
MAX_ITEMS = 20_000
"""Values, of lists and objects within each other too, that a reply may hold."""
MAX_KEY = 200
MAX_LOG_LINES = 500
MAX_LOG_LINE = 500


class WireError(ValueError):
    """A message has the wrong shape. The text says which field and what was expected."""


def load_json(text: str) -> Json:
    """Parse JSON text of another party.

    Raises:
        WireError: if it is not JSON, nests deeper than ``MAX_DEPTH`` or repeats a key.
    """
    try:
        value: Json = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WireError(
            f"The text is not JSON that this program accepts: {clean_text(str(error), 200)}"
        ) from None
    _check_depth(value, MAX_DEPTH)
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise WireError("An object of the message repeats a key.")
    return result


def _check_depth(value: Json, left: int) -> None:
    if left < 0:
        raise WireError(f"The message nests deeper than {MAX_DEPTH} levels.")
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, left - 1)
    elif isinstance(value, list):
        for item in value:
            _check_depth(item, left - 1)


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """Text of another party, safe to print: control characters gone (but line ends and tabs), capped."""
    kept = "".join(
        c if c in "\n\t" or (c.isprintable() and c != "\x7f") else "\N{REPLACEMENT CHARACTER}"
        for c in text[:limit]
    )
    return kept if len(text) <= limit else f"{kept} [... {len(text) - limit} characters more]"


def as_plain(value: Json, what: str) -> Json:
    """``value`` as it may be kept, shown and written anywhere.

    Texts are cleaned and capped; numbers that are not finite, or that 63 bits can't hold, are None; keys are cleaned
    and capped, and of two that are then alike the first counts.

    Raises:
        WireError: if there are more than ``MAX_ITEMS`` values in it, or they nest deeper than ``MAX_DEPTH``.
    """
    left = MAX_ITEMS

    def plain(value: Json, depth: int) -> Json:
        nonlocal left
        left -= 1
        if left < 0 or depth < 0:
            most = (
                f"more than {MAX_ITEMS} values"
                if left < 0
                else f"values nested deeper than {MAX_DEPTH} levels"
            )
            raise WireError(f"{what} holds {most}.")
        if isinstance(value, dict):
            result: dict[str, Json] = {}
            for name, item in value.items():
                result.setdefault(clean_text(name, MAX_KEY), plain(item, depth - 1))
            return result
        if isinstance(value, list):
            return [plain(item, depth - 1) for item in value]
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return None if isinstance(value, int) and abs(value) >= 2**63 else value

    return plain(value, MAX_DEPTH)


def as_object(value: Json, what: str) -> dict[str, Json]:
    """``value`` if it is a JSON object, else ``WireError``."""
    if not isinstance(value, dict):
        raise WireError(f"{what} is {type(value).__name__}, not an object.")
    return value


def as_text(value: Json, what: str, limit: int = MAX_TEXT) -> str:
    """``value`` cleaned and capped if it is text, else ``WireError``."""
    if not isinstance(value, str):
        raise WireError(f"{what} is {type(value).__name__}, not text.")
    return clean_text(value, limit)


def as_key(value: Json, what: str, limit: int = 500) -> str:
    """``value`` unchanged if it is short printable text, else ``WireError``."""
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise WireError(f"{what} is not printable text of at most {limit} characters.")
    return value


def as_int(value: Json, what: str) -> int:
    """``value`` if it is a whole number that fits 63 bits, else ``WireError``."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise WireError(f"{what} is not a whole number.")
    return value


def as_count(value: Json, what: str) -> int:
    """``value`` if it is a whole number of zero or more, else ``WireError``."""
    number = as_int(value, what)
    if number < 0:
        raise WireError(f"{what} is negative.")
    return number


def as_line(value: Json, what: str, limit: int = MAX_LOG_LINE) -> str:
    """``value`` as one line, cleaned and capped, if it is text, else ``WireError``."""
    return " ".join(as_text(value, what, limit).split("\n"))


def as_seconds(value: Json, what: str) -> float:
    """``value`` if it is a finite number of zero or more seconds, else ``WireError``."""
    number = as_finite(value)
    if number is None or number < 0:
        raise WireError(f"{what} is not a duration in seconds.")
    return number


def as_finite(value: Json) -> float | None:
    """``value`` if it is a finite number that a float can hold, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
