"""What is wrong with a configuration, and where."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from appfl_gc.protocol.errors import AppflGcError, ErrorClass
from appfl_gc.protocol.wire import Json


class Severity(str, enum.Enum):
    """How much a diagnostic matters: errors stop a run, warnings do not, notes only tell."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Diagnostic:
    """One finding in the terms of the user's files.

    Attributes:
        severity: error, warning or note.
        message: full sentences: what was expected and what was found.
        file: the file as the user named it, ``command line``, or "".
        line: line in the file, from 1, or None.
        key: path of the key, such as ``clients[1].train_configs.device``, or "".
        hint: what to do, such as the nearest valid key, or "".
    """

    severity: Severity
    message: str
    file: str = ""
    line: int | None = None
    key: str = ""
    hint: str = ""

    @property
    def place(self) -> str:
        """``file:line``, or as much of it as is known."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "severity": self.severity.value,
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "message": self.message,
            "hint": self.hint,
        }

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.place, self.severity.value, self.key, self.message) if part)
        return f"{head}\n  Hint: {self.hint}" if self.hint else head


class ConfigError(AppflGcError):
    """The configuration has errors; all of them are in ``diagnostics``, beside the warnings and notes."""

    error_class = ErrorClass.USER

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = [found for found in self.diagnostics if found.severity is Severity.ERROR]
        count = "an error" if len(errors) == 1 else f"{len(errors)} errors"
        super().__init__("\n".join([f"The configuration has {count}.", *map(str, errors)]))
