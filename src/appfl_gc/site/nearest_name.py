"""The name that somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that is most like ``name``, whatever its case, or None if none is like it."""
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name.lower(), by_lower, 1, 0.5)
    return by_lower[near[0]] if near else None
