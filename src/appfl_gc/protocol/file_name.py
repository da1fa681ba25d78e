"""File names made of names that users choose."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def file_name_part(name: str) -> str:
    """``name`` as part of a file's name: unsafe characters replaced; then a hash keeps different names apart."""
    safe = _UNSAFE.sub("_", name)[:80].lstrip(".")
    if safe == name and safe:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
