"""Which of the parts that a store lists make up a payload."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def fitting(listed: Iterable[dict[str, Any]], size: int) -> tuple[list[tuple[int, str]], int]:
    """Number and tag of the parts from the first on that are needed for ``size`` bytes, and their bytes together.

    Args:
        listed: what the store lists, with ``PartNumber``, ``ETag``, ``Size`` and ``LastModified``.
        size: of the payload; parts beyond it are of an earlier, larger one.
    """
    parts: list[tuple[int, str]] = []
    total = 0
    for part in _newest(listed):
        if total >= size or part["PartNumber"] != len(parts) + 1:
            break
        parts.append((len(parts) + 1, str(part["ETag"])))
        total += int(part["Size"])
    return parts, total


def _newest(listed: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts by number. Some stores list what was sent before under the same number too."""
    by_number: dict[int, dict[str, Any]] = {}
    for part in sorted(listed, key=lambda part: part["LastModified"]):
        by_number[part["PartNumber"]] = part
    return [by_number[number] for number in sorted(by_number)]
