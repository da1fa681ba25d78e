"""Something that a check found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an endpoint.

    Attributes:
        is_error: it would fail; otherwise it would be slow or wasteful.
        message: what and why, full sentences.
        hint: what to do, or "".
    """

    is_error: bool
    message: str
    hint: str = ""

    def __str__(self) -> str:
        head = f"{'Error' if self.is_error else 'Warning'}: {self.message}"
        return f"{head}\n  Hint: {self.hint}" if self.hint else head


def error(message: str, hint: str = "") -> Finding:
    """A finding that stops the endpoint."""
    return Finding(True, message, hint)


def warning(message: str, hint: str = "") -> Finding:
    """A finding that makes it slow or wasteful."""
    return Finding(False, message, hint)
