"""What goes wrong with a sandbox: as a whole, and in one request to its service."""

from __future__ import annotations

from collections.abc import Mapping


class SandboxError(Exception):
    """A sandbox can't be started, reached or stopped; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ServiceError(Exception):
    """A request is refused; becomes an HTTP response with ``{"code": code, "message": message}``."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
