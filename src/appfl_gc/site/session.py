"""The site's session: datasets and models that were built before, kept by what they were built from.

A pure cache: a hit and a miss give the same bits. It is the one module-level state of the program; a worker
process has one, and it ends with the worker.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class SessionCache:
    """Least recently used values by key."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, build: Callable[[], T], limit: int) -> T:
        """The value under ``key``, built now if it is not there; at most ``limit`` values are kept."""
        if key in self._values:
            self._values.move_to_end(key)
        else:
            self._values[key] = build()
            while len(self._values) > max(1, limit):
                self._values.popitem(last=False)
        value: T = self._values[key]
        return value

    def clear(self) -> None:
        """Forget everything; the next call builds anew."""
        self._values.clear()


SESSION = SessionCache()


def cache_key(*parts: object) -> str:
    """A key made of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
