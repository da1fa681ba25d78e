"""Damage and forgeries for hypothesis: bytes that were changed, and JSON with something else in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appfl_gc.protocol.wire import MAX_DEPTH

SEARCHES = pytest.mark.parametrize(
    "examples", [pytest.param(60, id="some"), pytest.param(4000, id="many", marks=pytest.mark.chaos)]
)
"""How long a test looks for a damage that its code does not bear."""


def search(examples: int, found: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Call ``check`` with what ``found`` draws, ``examples`` times."""
    patient = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    patient(given(found)(check))()


@st.composite
def damaged(draw: st.DrawFn, content: bytes, within: int | None = None) -> bytes:
    """``content`` with up to three places altered, most often in its first ``within`` bytes."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        last = max(0, min(len(result), within or len(result)) - 1)
        at = draw(st.integers(0, last))
        kind = draw(st.sampled_from(["bit", "byte", "insert", "cut", "repeat", "end"]))
        if kind == "bit" and result:
            result[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and result:
            result[at] = draw(st.sampled_from(list(b'\x00\n\r "{}[],:0-\xff\xc0\x80')))
        elif kind == "insert":
            result[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "cut":
            del result[at : at + draw(st.integers(1, 40))]
        elif kind == "repeat":
            result[at:at] = result[at : at + draw(st.integers(1, 200))]
        elif kind == "end":
            del result[at:]
    return bytes(result)


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else {}


HOSTILE: st.SearchStrategy[Any] = (
    st.sampled_from(
        [
            None,
            True,
            -1,
            0,
            2**31,
            2**63,
            -(2**63),
            10**400,
            1e308,
            -0.5,
            math.nan,
            math.inf,
            "",
            "\x00",
            "\ud800",
            "\x1b[2J",
            "../../journal.jsonl",
            "/etc/passwd",
            "x" * 30_000,
            [],
            {},
            [[]] * 50,
            _nested(MAX_DEPTH + 5),
            {"": ""},
        ]
    )
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.none() | st.integers() | st.text(max_size=5), max_size=4)
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in items for place in _places(item, (*path, key))]


@st.composite
def forged(draw: st.DrawFn, value: Any) -> Any:
    """A copy of the JSON ``value`` in which up to three things are others, gone, or new."""
    result = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(result)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        inside = result
        for key in way:
            inside = inside[key]
        kind = draw(st.sampled_from(["other", "other", "gone", "new"]))
        if kind == "other":
            inside[last] = deepcopy(draw(HOSTILE))
        elif kind == "gone":
            del inside[last]
        elif isinstance(inside, dict):
            inside[draw(st.text(max_size=5))] = deepcopy(draw(HOSTILE))
        else:
            inside.append(deepcopy(draw(HOSTILE)))
    return result
