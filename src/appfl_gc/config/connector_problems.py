"""What is wrong with the keyword arguments of a connector, in plain sentences, each with the key that it is about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appfl_gc.protocol.redaction import shown

_SECRETS = ("password", "username", "user", "auth", "credential_provider")
_EXPECTED = {
    "uuid_parsing": "a UUID",
    "uuid_type": "a UUID",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_too_long": "a shorter text",
    "string_pattern_mismatch": "text in one line, without control characters",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
}
_HINTS = {
    "uuid_parsing": "It has 36 characters, such as 0fa3b0c0-9d0c-47a1-9d0f-6f0c3b1f7a55.",
    "list_type": "Write `[ONE, OTHER]`, or each in a line of its own after a hyphen.",
}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        key: where, below ``proxystore_configs``.
        sentence: what.
        hint: what helps, or "".
    """

    key: tuple[str | int, ...]
    sentence: str
    hint: str = ""


def problem_of(connector: str, known: Mapping[str, Sequence[str]], detail: Mapping[str, Any]) -> Problem:
    """What pydantic found, said plainly.

    Args:
        connector: whose arguments they are.
        known: names of keys, of the arguments ("") and of the blocks below an argument.
        detail: one of ``ValidationError.errors()``.
    """
    # Of a key that does not fit pydantic says so by a further step.
    steps = tuple(step for step in detail["loc"] if step != "[key]")
    place, name, kind = ("connector_configs", *steps), _written(steps), detail["type"]
    if kind == "missing":
        return Problem(place, f"{connector} needs `{name}`.")
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown(connector, known, steps)
    if kind == "too_short":
        least, there = detail["ctx"]["min_length"], detail["ctx"]["actual_length"]
        return Problem(place, f"`{name}` of {connector} has {_entries(there)}; it needs at least {least}.")
    expected = _expected(str(steps[-1]) if steps else "", detail)
    found = shown(str(steps[-1]) if steps else "", detail["input"])
    return Problem(
        place, f"`{name}` of {connector}: expected {expected}, found {found}.", _HINTS.get(kind, "")
    )


def near(name: str, known: Iterable[str]) -> str:
    """A sentence with the known name that is spelt most like ``name``, after a space; "" if none is near."""
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 1, 0.5)
    return f" Did you mean {by_lower[found[0]]}?" if found else ""


def _unknown(connector: str, known: Mapping[str, Sequence[str]], steps: tuple[str | int, ...]) -> Problem:
    place, last = ("connector_configs", *steps), str(steps[-1])
    if connector == "RedisConnector" and last in _SECRETS:
        return Problem(
            place,
            f"`{last}` has no place in a configuration: RedisConnector reads user and password from ~/.netrc, on "
            "each machine.",
            "Take it out, and put this line into ~/.netrc (mode 0600) there: machine HOSTNAME login default "
            "password PASSWORD",
        )
    names = known[str(steps[0]) if len(steps) > 1 else ""]
    takes = f"It takes {', '.join(names)}."
    return Problem(
        place, f"{connector} has no keyword argument `{_written(steps)}`.{near(last, names)} {takes}"
    )


def _expected(name: str, detail: Mapping[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if name == "port" and kind in ("greater_than", "less_than"):
        return "a whole number from 1 to 65535"
    if kind == "greater_than":
        return f"a number of more than {context['gt']:g}"
    if kind == "less_than":
        return f"a number of less than {context['lt']:,g}"
    if kind == "literal_error":
        return "one of " + str(context["expected"]).replace("'", "").replace(" or ", ", ")
    return _EXPECTED.get(kind, "something else")


def _written(steps: Iterable[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def _entries(count: int) -> str:
    return {0: "no entry", 1: "1 entry"}.get(count, f"{count} entries")
