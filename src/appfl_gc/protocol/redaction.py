"""Keeps secrets out of logs, run directories and messages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "(redacted)"
SECRET = re.compile(r"secret|passw(or)?d|passphrase|credential|(api|access|private|auth)key")
USER_IN_URL = re.compile(r"(://)[^/\s]+@")
ASSIGNMENT = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)=([^\s;&|]+)")
WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")


def is_secret(name: str, value: Any, *, inside_credentials: bool = False) -> bool:
    """Whether the value of the key ``name`` must not be shown.

    ``token`` counts for text only: ``max_token: 512`` is no secret. What ends in ``file``, ``path`` or ``name``
    is a place, not a secret.
    """
    words = [word.lower() for word in WORD.findall(name)]
    if isinstance(value, bool) or value is None or (words and words[-1] in {"file", "path", "name", "dir"}):
        return False
    if SECRET.search("".join(words)):
        return True
    if isinstance(value, str) and any(word.endswith(("token", "tokens")) for word in words):
        return True
    return inside_credentials and "key" in words


def _assigns_secret(name: str, value: str) -> bool:
    bare = value.strip("\\\"'")
    # What a variable, a command or a file gives is no secret in this text.
    if not bare or bare[0] in "$`/~{":
        return False
    return is_secret(name, bare) or USER_IN_URL.search(bare) is not None


def secret_in(text: str) -> str | None:
    """The first variable that shell text sets to what looks like a secret; what a shell or a file gives is none."""
    return next((name for name, value in ASSIGNMENT.findall(text) if _assigns_secret(name, value)), None)


def _without_assigned_secrets(text: str) -> str:
    return ASSIGNMENT.sub(
        lambda found: f"{found[1]}={REDACTED}" if _assigns_secret(found[1], found[2]) else found[0], text
    )


def redact(value: Any, name: str = "", *, inside_credentials: bool = False) -> Any:
    """A copy of ``value`` as plain dictionaries and lists in which secrets are replaced.

    So are those that shell text, such as a ``worker_init``, sets variables to. Addresses lose the user and
    password before ``@``; infinite numbers, which JSON lacks, become text as in YAML.
    """
    if is_secret(name, value, inside_credentials=inside_credentials):
        return REDACTED
    inside = inside_credentials or "cred" in name.lower()
    if isinstance(value, Mapping):
        return {key: redact(item, str(key), inside_credentials=inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, name, inside_credentials=inside) for item in value]
    if isinstance(value, str):
        return USER_IN_URL.sub(rf"\1{REDACTED}@", _without_assigned_secrets(value))
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return value


def shown(name: str, value: Any, limit: int = 80) -> str:
    """``value`` as YAML would show it in a message: short, without secrets."""
    safe = redact(value, name)
    if isinstance(safe, dict):
        return "a block of keys"
    if isinstance(safe, list):
        return "a list"
    text = repr(safe)
    return text if len(text) <= limit else f"{text[:limit]}..."
