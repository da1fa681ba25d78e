"""What a check found: one row of the doctor's table."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from appfl_gc.protocol.errors import AppflGcError, ErrorClass

T = TypeVar("T")

NAMES = 4


class State(str, enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """A run may go well, or be slower than it could be."""
    FAIL = "fail"
    """A run would fail."""
    SKIPPED = "skipped"
    """It could not be checked, or does not apply."""


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        subject: what was checked: a login, an endpoint, this machine; rows of one subject stand together.
        check: what about it, in a word or two.
        state: how it ended.
        finding: sentences.
        fix: what to do, or "".
        error_class: of a failure: what a run would end with.
    """

    subject: str
    check: str
    state: State
    finding: str
    fix: str = ""
    error_class: ErrorClass | None = None


@dataclass(frozen=True)
class Subject:
    """Makes the rows about one thing."""

    name: str

    def ok(self, check: str, finding: str) -> Row:
        """All is well."""
        return Row(self.name, check, State.OK, finding)

    def warn(self, check: str, finding: str, fix: str = "") -> Row:
        """Not as it should be, but no run fails of it."""
        return Row(self.name, check, State.WARN, finding, fix)

    def fail(self, check: str, finding: str, fix: str, error_class: ErrorClass) -> Row:
        """A run would fail with ``error_class``."""
        return Row(self.name, check, State.FAIL, finding, fix, error_class)

    def failed(self, check: str, error: AppflGcError) -> Row:
        """A run would fail with ``error``."""
        return self.fail(check, error.message, error.hint, error.error_class)

    def skipped(self, check: str, finding: str, fix: str = "") -> Row:
        """Not checked, and why."""
        return Row(self.name, check, State.SKIPPED, finding, fix)


def named(names: Sequence[str]) -> str:
    """The names, or the first ones and how many more there are; "" for none."""
    more = len(names) - NAMES
    return ", ".join(names[:NAMES]) + (f" and {more} more" if more > 0 else "")


def answer(question: Callable[[], T]) -> T | AppflGcError:
    """What ``question`` returns, or the error of ours that it raises."""
    try:
        return question()
    except AppflGcError as error:
        return error
